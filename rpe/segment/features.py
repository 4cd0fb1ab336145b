"""What can be said of a group without knowing the truth, for its ranking; and how good it is, where the truth is known."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.segment.groups import UNGROUPED, GroupMap, cell_centres, probability_at
from rpe.structures import BACKGROUND, VOID, NetworkOutput

PLAIN = (
    "log-area",
    "objectness",
    "objectness-spread",
    "cohesion",
    "loosest",
    "objectness-around",
    "similarity-around",
    "fill",
    "elongation",
    "compactness",
)
"""The plain features, in their order."""


class Description(NamedTuple):
    """Of each group: the plain features (`PLAIN`) and the mean of the backbone's features over its cells."""

    plain: Float[Tensor, "group plain"]
    pooled: Float[Tensor, "group channel"]


def mean_over(
    values: Float[Tensor, "cell *rest"], member: Int64[Tensor, " cell"], groups: int
) -> Float[Tensor, "group *rest"]:
    """The mean of each group's cells; 0 for a group without any."""
    total = values.new_zeros(groups, *values.shape[1:]).index_add(0, member, values)
    count = torch.bincount(member, minlength=groups).clamp(min=1).to(values.dtype)
    return total / count.reshape(-1, *[1] * (values.ndim - 1))


def describe(grouped: GroupMap, embedded: NetworkOutput) -> Description:
    """Features of each group on the grid of one image, without gradient.

    `log-area` of the pixels covered; mean and standard deviation of the `objectness` inside; mean (`cohesion`) and least (`loosest`)
    calibrated similarity of its cells to the mode; of the cells across its border the mean objectness and similarity to its mode, for
    the contrast to the surroundings (what lies beyond the image does not count); share of its bounding box that it fills; shorter over
    longer side of the box; 4 pi area / perimeter^2.
    """
    with torch.no_grad():
        points = embedded.points
        groups, stride = len(grouped.modes), points.stride
        flat = grouped.labels.flatten()
        cells = (flat != UNGROUPED).nonzero()[:, 0]
        member = flat[cells] - 1
        vectors = points.values[0].flatten(1).T
        probability = probability_at(embedded.objectness, cell_centres(points))
        similarity = (1 + (vectors[cells] * grouped.modes[member]).sum(1)) / 2
        area = torch.bincount(member, minlength=groups).to(vectors.dtype)
        sure = mean_over(probability[cells], member, groups)
        spread = (mean_over(probability[cells].square(), member, groups) - sure.square()).clamp(min=0).sqrt()
        loosest = torch.ones(groups, dtype=similarity.dtype, device=flat.device).scatter_reduce(
            0, member, similarity, "amin"
        )
        around, alike, perimeter = across_the_border(grouped, vectors, probability)
        height, width = box_sides(grouped)
        plain = [
            (area * stride**2).clamp(min=1).log(),
            sure,
            spread,
            mean_over(similarity, member, groups),
            loosest,
            around,
            alike,
            area / (height * width),
            torch.minimum(height, width) / torch.maximum(height, width),
            4 * torch.pi * area / perimeter.clamp(min=1).square(),
        ]
        pooled = mean_over(embedded.features.values[0].flatten(1).T.float()[cells], member, groups)
        return Description(torch.stack(plain, 1), pooled)


def across_the_border(
    grouped: GroupMap, vectors: Float[Tensor, "cell dim"], probability: Float[Tensor, " cell"]
) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Means over the sides that a group's cells share with others': objectness there, similarity of what is there to the group's mode; and how many
    sides there are."""
    rows, columns = grouped.labels.shape
    groups = len(grouped.modes)
    index = torch.arange(rows * columns, device=vectors.device).reshape(rows, columns)
    ends = [(index[:-1], index[1:]), (index[:, :-1], index[:, 1:])]
    one = torch.cat([pair[0].flatten() for pair in ends])
    other = torch.cat([pair[1].flatten() for pair in ends])
    inside, outside = torch.cat([one, other]), torch.cat([other, one])
    flat = grouped.labels.flatten()
    crossing = (
        (flat[inside] != UNGROUPED) & (flat[inside] != flat[outside]) & grouped.inside.flatten()[outside]
    )
    member, outside = flat[inside[crossing]] - 1, outside[crossing]
    alike = (1 + (vectors[outside] * grouped.modes[member]).sum(1)) / 2
    sides = torch.bincount(member, minlength=groups).to(vectors.dtype)
    return mean_over(probability[outside], member, groups), mean_over(alike, member, groups), sides


def box_sides(grouped: GroupMap) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Height and width in cells of each group's bounding box."""
    groups = len(grouped.modes)
    where = (grouped.labels != UNGROUPED).nonzero()
    member = grouped.labels[where[:, 0], where[:, 1]] - 1
    sides = []
    for axis in range(2):
        low = where.new_full((groups,), max(grouped.labels.shape)).scatter_reduce(
            0, member, where[:, axis], "amin"
        )
        high = where.new_full((groups,), -1).scatter_reduce(0, member, where[:, axis], "amax")
        sides.append((high - low + 1).clamp(min=1).float())
    return sides[0], sides[1]


def quality_of(grouped: GroupMap, truth: Int64[Tensor, "rows columns"]) -> Float[Tensor, " group"]:
    """The best intersection over union of each group with a true object, on the grid; void cells do not count."""
    groups = len(grouped.modes)
    known = truth != VOID
    objects = int(truth.max().clamp(min=BACKGROUND)) + 1
    pairs = grouped.labels[known] * objects + truth[known]
    table = torch.bincount(pairs, minlength=(groups + 1) * objects).reshape(groups + 1, objects).float()
    both = table[1:, 1:]
    union = table[1:].sum(1, keepdim=True) + table[:, 1:].sum(0, keepdim=True) - both
    if both.shape[1] == 0:
        return both.new_zeros(groups)
    return (both / union.clamp(min=1)).amax(1)
