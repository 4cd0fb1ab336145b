"""Groups of one image, first as labels of the network's cells, then of the original pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from skimage.measure import label as connected_regions
from torch import Tensor
from torch.nn import functional

from rpe.sphere import normalise
from rpe.structures import VOID, FeatureMap, NetworkOutput, pixel_centres

PORTION = 65536
"""Pixels that are compared with the modes at a time, to bound the memory."""

UNGROUPED = 0
"""The label of cells and pixels that belong to no group; group k has label k + 1."""


@dataclass
class GroupMap:
    """One partition of an image's foreground: labels of the cells, each group's mode, and which cells lie in the image rather than its padding."""

    labels: Int64[Tensor, "rows columns"]
    modes: Float[Tensor, "group dim"]
    inside: Bool[Tensor, "rows columns"]


def image_of(embedded: NetworkOutput, index: int) -> NetworkOutput:
    """One image of a batch."""

    def part(feature: FeatureMap) -> FeatureMap:
        return FeatureMap(feature.values[index : index + 1], feature.stride)

    classes = None if embedded.classes is None else part(embedded.classes)
    return NetworkOutput(part(embedded.points), part(embedded.objectness), part(embedded.features), classes)


def detached(embedded: NetworkOutput) -> NetworkOutput:
    """The same without gradient, and without the classes, which no ranking looks at."""
    maps = (embedded.points, embedded.objectness, embedded.features)
    return NetworkOutput(*(FeatureMap(feature.values.detach().float(), feature.stride) for feature in maps))


def cell_centres(feature: FeatureMap) -> Float[Tensor, "cell 2"]:
    """(row, column) of the cells' centres in pixels of the network's image, row by row."""
    rows, columns = feature.values.shape[-2:]
    return pixel_centres((rows, columns), feature.values.device) * feature.stride


def cells_inside(feature: FeatureMap, size: tuple[int, int]) -> Bool[Tensor, " cell"]:
    """Which cells, row by row, have their centre in the image rather than in its padding."""
    centres = cell_centres(feature)
    return (centres[:, 0] < size[0]) & (centres[:, 1] < size[1])


def truth_on_grid(
    labels: Int64[Tensor, "height width"], feature: FeatureMap
) -> Int64[Tensor, "rows columns"]:
    """The label of the pixel in which each cell's centre lies; void in the padding."""
    rows, columns = feature.values.shape[-2:]
    row, column = cell_centres(feature).long().unbind(1)
    height, width = labels.shape
    outside = (row >= height) | (column >= width)
    found = labels[row.clamp(max=height - 1), column.clamp(max=width - 1)]
    return torch.where(outside, VOID, found).reshape(rows, columns)


def probability_at(objectness: FeatureMap, positions: Float[Tensor, "pixel 2"]) -> Float[Tensor, " pixel"]:
    """Of being an object, at positions in pixels of the network's image."""
    return torch.cat([objectness.at(part[None])[0, :, 0].sigmoid() for part in positions.split(PORTION)])


def connected(grouped: GroupMap) -> GroupMap:
    """The parts that each group falls into on the grid (cells that touch at a side or corner), each with its group's mode."""
    regions, count = connected_regions(
        grouped.labels.cpu().numpy(), background=UNGROUPED, connectivity=2, return_num=True
    )
    labels = torch.from_numpy(regions).to(grouped.labels)
    of_group = torch.zeros(count + 1, dtype=torch.int64, device=labels.device).scatter_(
        0, labels.flatten(), grouped.labels.flatten()
    )
    return GroupMap(labels, grouped.modes[of_group[1:] - 1], grouped.inside)


def parted(
    labels: Int64[np.ndarray, "height width"], scores: Float[np.ndarray, " group"]
) -> tuple[Int64[np.ndarray, "height width"], Float[np.ndarray, " part"]]:
    """The connected parts of the masks at their own resolution (pixels that touch at a side or corner): parts of the grid may fall apart there.

    The largest part of a group keeps its score; of the others the score is less by their share of the largest's area, as the group was described as a
    whole and a few pixels astray are no such object.
    """
    regions, count = connected_regions(labels, background=UNGROUPED, connectivity=2, return_num=True)
    of_group = np.zeros(count + 1, dtype=np.int64)
    of_group[regions.ravel()] = labels.ravel()
    groups, areas = of_group[1:] - 1, np.bincount(regions.ravel(), minlength=count + 1)[1:]
    largest = np.zeros(len(scores), dtype=np.int64)
    np.maximum.at(largest, groups, areas)
    return regions.astype(np.int64), scores[groups] * areas / np.maximum(largest[groups], 1)


def without_small(grouped: GroupMap, cells: float) -> GroupMap:
    """The groups of at least so many cells; the cells of the others are nobody's."""
    area = torch.bincount(grouped.labels.flatten(), minlength=len(grouped.modes) + 1)[1:]
    kept = area >= cells
    number = torch.zeros(len(area) + 1, dtype=torch.int64, device=area.device)
    number[1:][kept] = torch.arange(1, int(kept.sum()) + 1, device=area.device)
    return GroupMap(number[grouped.labels], grouped.modes[kept], grouped.inside)


def at_original_size(
    grouped: GroupMap, points: FeatureMap, positions: Float[Tensor, "pixel 2"], local: bool
) -> tuple[Int64[Tensor, " pixel"], Float[Tensor, " pixel"]]:
    """Each pixel's label, and the calibrated similarity to its mode, by its own bilinear point: a label map enlarged from the grid would cap
    small objects.

    Args:
        grouped: labels on the grid of `points`.
        points: of one image.
        positions: of the original's foreground pixels, in pixels of the network's image.
        local: take the nearest mode among those of the 3 x 3 cells around the pixel (nobody's where none is grouped), as look-alikes
            elsewhere in the image may have the same mode; otherwise the nearest of all modes.
    """
    nearest, similarity = [], []
    for part in positions.split(PORTION):
        here = normalise(points.at(part[None])[0])
        if local:
            label, cosine = nearest_around(grouped, points.stride, part, here)
        else:
            best = (here @ grouped.modes.T).max(dim=1)
            label, cosine = best.indices + 1, best.values
        nearest.append(label)
        similarity.append((1 + cosine) / 2)
    return torch.cat(nearest), torch.cat(similarity)


def nearest_around(
    grouped: GroupMap, stride: int, positions: Float[Tensor, "pixel 2"], here: Float[Tensor, "pixel dim"]
) -> tuple[Int64[Tensor, " pixel"], Float[Tensor, " pixel"]]:
    """Of the groups of the 3 x 3 cells around each position the label of the one whose mode is nearest to the point there, and the cosine."""
    rows, columns = grouped.labels.shape
    ringed = functional.pad(grouped.labels, (1, 1, 1, 1), value=UNGROUPED)
    cell = (positions / stride).long()
    row, column = cell[:, 0].clamp(max=rows - 1), cell[:, 1].clamp(max=columns - 1)
    label = torch.full_like(row, UNGROUPED)
    cosine = torch.full_like(here[:, 0], -1)
    for down in range(3):
        for right in range(3):
            candidate = ringed[row + down, column + right]
            grouped_here = (candidate != UNGROUPED).nonzero()[:, 0]
            value = (here[grouped_here] * grouped.modes[candidate[grouped_here] - 1]).sum(1)
            better = (value > cosine[grouped_here]) | (label[grouped_here] == UNGROUPED)
            taken = grouped_here[better]
            label[taken], cosine[taken] = candidate[taken], value[better]
    return label, cosine
