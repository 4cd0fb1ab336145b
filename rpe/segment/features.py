"""Compute per-group features for ranking, and the ranker's target: the best IoU with an object."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.segment.groups import UNGROUPED, GroupMap, cell_centres, probability_at
from rpe.structures import BACKGROUND, VOID, NetworkOutput

HANDCRAFTED = (
    "log-area",
    "objectness",
    "objectness-spread",
    "cohesion",
    "loosest",
    "objectness-around",
    "similarity-around",
    "fill",
    "aspect",
    "compactness",
)
"""Names of the handcrafted features, in order."""


class GroupFeatures(NamedTuple):
    """The handcrafted features of each group, and the mean of the backbone's features over its cells."""

    handcrafted: Float[Tensor, "group feature"]
    pooled: Float[Tensor, "group channel"]


def average_by_group(
    values: Float[Tensor, "cell *rest"], member: Int64[Tensor, " cell"], count: int
) -> Float[Tensor, "group *rest"]:
    """Return the mean over each group's cells; 0 for a group without cells."""
    total = values.new_zeros(count, *values.shape[1:]).index_add(0, member, values)
    cells = torch.bincount(member, minlength=count).clamp(min=1).to(values.dtype)
    return total / cells.reshape(-1, *[1] * (values.ndim - 1))


def compute_group_features(groups: GroupMap, output: NetworkOutput) -> GroupFeatures:
    """Return the features of each group of one image, without gradient.

    - `log-area`: of the pixels covered.
    - `objectness`, `objectness-spread`: mean and standard deviation of the objectness inside.
    - `cohesion`, `loosest`: mean and minimum of the calibrated similarity of its cells to the mode.
    - `objectness-around`, `similarity-around`: mean objectness, and mean similarity to its mode, of the cells
      across its border. Cells beyond the image do not count.
    - `fill`: share of its bounding box that it fills.
    - `aspect`: shorter over longer side of the box.
    - `compactness`: 4 pi area / perimeter^2. It may exceed 1, as sides on the image's border are not in the
      perimeter.
    """
    with torch.no_grad():
        points = output.points
        count, stride = len(groups.modes), points.stride
        flat = groups.labels.flatten()
        cells = (flat != UNGROUPED).nonzero()[:, 0]
        member = flat[cells] - 1
        vectors = points.values[0].flatten(1).T
        probability = probability_at(output.objectness, cell_centres(points))
        similarity = (1 + (vectors[cells] * groups.modes[member]).sum(1)) / 2
        area = torch.bincount(member, minlength=count).to(vectors.dtype)
        mean = average_by_group(probability[cells], member, count)
        square = average_by_group(probability[cells].square(), member, count)
        loosest = torch.ones(count, dtype=similarity.dtype, device=flat.device).scatter_reduce(
            0, member, similarity, "amin"
        )
        around, alike, perimeter = measure_surroundings(groups, vectors, probability)
        height, width = measure_boxes(groups)
        handcrafted = [
            (area * stride**2).clamp(min=1).log(),
            mean,
            (square - mean.square()).clamp(min=0).sqrt(),
            average_by_group(similarity, member, count),
            loosest,
            around,
            alike,
            area / (height * width),
            torch.minimum(height, width) / torch.maximum(height, width),
            4 * torch.pi * area / perimeter.clamp(min=1).square(),
        ]
        pooled = average_by_group(output.features.values[0].flatten(1).T.float()[cells], member, count)
        return GroupFeatures(torch.stack(handcrafted, 1), pooled)


def measure_surroundings(
    groups: GroupMap, vectors: Float[Tensor, "cell dim"], probability: Float[Tensor, " cell"]
) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Return mean objectness, mean similarity to the mode, and number of the cells across each border.

    A cell counts once for each side that it shares with the group.
    """
    rows, columns = groups.labels.shape
    count = len(groups.modes)
    index = torch.arange(rows * columns, device=vectors.device).reshape(rows, columns)
    ends = [(index[:-1], index[1:]), (index[:, :-1], index[:, 1:])]
    one = torch.cat([pair[0].flatten() for pair in ends])
    other = torch.cat([pair[1].flatten() for pair in ends])
    inside, outside = torch.cat([one, other]), torch.cat([other, one])
    flat = groups.labels.flatten()
    crossing = (
        (flat[inside] != UNGROUPED) & (flat[inside] != flat[outside]) & groups.inside.flatten()[outside]
    )
    member, outside = flat[inside[crossing]] - 1, outside[crossing]
    alike = (1 + (vectors[outside] * groups.modes[member]).sum(1)) / 2
    sides = torch.bincount(member, minlength=count).to(vectors.dtype)
    around = average_by_group(probability[outside], member, count)
    return around, average_by_group(alike, member, count), sides


def measure_boxes(groups: GroupMap) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Return height and width in cells of each group's bounding box."""
    count = len(groups.modes)
    where = (groups.labels != UNGROUPED).nonzero()
    member = groups.labels[where[:, 0], where[:, 1]] - 1
    sides = []
    for axis in range(2):
        low = where.new_full((count,), max(groups.labels.shape)).scatter_reduce(
            0, member, where[:, axis], "amin"
        )
        high = where.new_full((count,), -1).scatter_reduce(0, member, where[:, axis], "amax")
        sides.append((high - low + 1).clamp(min=1).float())
    return sides[0], sides[1]


def compute_best_ious(groups: GroupMap, truth: Int64[Tensor, "rows columns"]) -> Float[Tensor, " group"]:
    """Return each group's best intersection over union with a true object on the grid, without void cells."""
    count = len(groups.modes)
    known = truth != VOID
    objects = int(truth.max().clamp(min=BACKGROUND)) + 1
    pairs = groups.labels[known] * objects + truth[known]
    table = torch.bincount(pairs, minlength=(count + 1) * objects).reshape(count + 1, objects).float()
    both = table[1:, 1:]
    union = table[1:].sum(1, keepdim=True) + table[:, 1:].sum(0, keepdim=True) - both
    if both.shape[1] == 0:
        return both.new_zeros(count)
    return (both / union.clamp(min=1)).amax(1)
