"""Represent the groups of one image: labels of the network's cells, then of the original pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from skimage.measure import label as connected_regions
from torch import Tensor
from torch.nn import functional

from rpe.sphere import normalise
from rpe.structures import VOID, FeatureMap, NetworkOutput, pixel_centres

PIXELS_PER_CHUNK = 65536
"""Pixels that are compared with the modes at once, to bound the memory."""

UNGROUPED = 0
"""Label of cells and pixels without a group; group k has label k + 1."""


@dataclass
class GroupMap:
    """One partition of an image's foreground.

    `labels` holds the group of each cell, `modes` the mode of each group. `inside` tells cells of the image
    from cells of its padding.
    """

    labels: Int64[Tensor, "rows columns"]
    modes: Float[Tensor, "group dim"]
    inside: Bool[Tensor, "rows columns"]


def select_image(output: NetworkOutput, index: int) -> NetworkOutput:
    """Return one image of a batch, as a batch of one."""

    def part(feature: FeatureMap) -> FeatureMap:
        return FeatureMap(feature.values[index : index + 1], feature.stride)

    classes = None if output.classes is None else part(output.classes)
    return NetworkOutput(part(output.points), part(output.objectness), part(output.features), classes)


def detach_output(output: NetworkOutput, device: torch.device) -> NetworkOutput:
    """Return the output on a device without gradient, and without the classes, which no ranker uses."""
    maps = (output.points, output.objectness, output.features)
    return NetworkOutput(
        *(FeatureMap(feature.values.detach().float().to(device), feature.stride) for feature in maps)
    )


def cell_centres(feature: FeatureMap) -> Float[Tensor, "cell 2"]:
    """Return (row, column) of the cells' centres in pixels of the network's image, row by row."""
    rows, columns = feature.values.shape[-2:]
    return pixel_centres((rows, columns), feature.values.device) * feature.stride


def cells_inside(feature: FeatureMap, size: tuple[int, int]) -> Bool[Tensor, " cell"]:
    """Return True for each cell, row by row, whose centre lies in the image, not in its padding."""
    centres = cell_centres(feature)
    return (centres[:, 0] < size[0]) & (centres[:, 1] < size[1])


def truth_on_grid(
    labels: Int64[Tensor, "height width"], feature: FeatureMap
) -> Int64[Tensor, "rows columns"]:
    """Return the label of the pixel that contains each cell's centre; void in the padding."""
    rows, columns = feature.values.shape[-2:]
    row, column = cell_centres(feature).long().unbind(1)
    height, width = labels.shape
    outside = (row >= height) | (column >= width)
    found = labels[row.clamp(max=height - 1), column.clamp(max=width - 1)]
    return torch.where(outside, VOID, found).reshape(rows, columns)


def probability_at(objectness: FeatureMap, positions: Float[Tensor, "pixel 2"]) -> Float[Tensor, " pixel"]:
    """Return the probability of an object at positions in pixels of the network's image."""
    chunks = positions.split(PIXELS_PER_CHUNK)
    return torch.cat([objectness.at(chunk[None])[0, :, 0].sigmoid() for chunk in chunks])


def split_components(groups: GroupMap) -> GroupMap:
    """Split each group into its connected components on the grid; each component keeps its group's mode.

    Cells are connected at a side or corner.
    """
    regions, count = connected_regions(
        groups.labels.cpu().numpy(), background=UNGROUPED, connectivity=2, return_num=True
    )
    labels = torch.from_numpy(regions).to(groups.labels)
    group_label = torch.zeros(count + 1, dtype=torch.int64, device=labels.device).scatter_(
        0, labels.flatten(), groups.labels.flatten()
    )
    return GroupMap(labels, groups.modes[group_label[1:] - 1], groups.inside)


def split_masks(
    labels: Int64[np.ndarray, "height width"], scores: Float[np.ndarray, " group"]
) -> tuple[Int64[np.ndarray, "height width"], Float[np.ndarray, " part"]]:
    """Split the masks into their connected components at the original size, and score each component.

    One component of the grid may give several here. Pixels are connected at a side or corner. A group's
    largest component keeps its score. The others get a lower score, by their share of the largest one's area:
    the score describes the group as a whole, and a few stray pixels are not such an object.
    """
    regions, count = connected_regions(labels, background=UNGROUPED, connectivity=2, return_num=True)
    group_label = np.zeros(count + 1, dtype=np.int64)
    group_label[regions.ravel()] = labels.ravel()
    groups, areas = group_label[1:] - 1, np.bincount(regions.ravel(), minlength=count + 1)[1:]
    largest = np.zeros(len(scores), dtype=np.int64)
    np.maximum.at(largest, groups, areas)
    return regions.astype(np.int64), scores[groups] * areas / np.maximum(largest[groups], 1)


def drop_small_groups(groups: GroupMap, cells: float) -> GroupMap:
    """Return the groups of at least `cells` cells; the cells of the others become ungrouped."""
    area = torch.bincount(groups.labels.flatten(), minlength=len(groups.modes) + 1)[1:]
    kept = area >= cells
    number = torch.zeros(len(area) + 1, dtype=torch.int64, device=area.device)
    number[1:][kept] = torch.arange(1, int(kept.sum()) + 1, device=area.device)
    return GroupMap(number[groups.labels], groups.modes[kept], groups.inside)


def label_pixels(
    groups: GroupMap, points: FeatureMap, positions: Float[Tensor, "pixel 2"], local: bool
) -> tuple[Int64[Tensor, " pixel"], Float[Tensor, " pixel"]]:
    """Return the label of each pixel, and the calibrated similarity of its own point to its mode.

    The pixel's point is interpolated bilinearly. Enlarging the label map of the grid would spoil small
    objects.

    Args:
        groups: labels on the grid of `points`.
        points: of one image.
        positions: of the original's foreground pixels, in pixels of the network's image.
        local: True takes the nearest mode among the groups of the 3 x 3 cells around the pixel, as
            look-alikes elsewhere in the image may share a mode; the pixel is ungrouped where these cells are.
            False takes the nearest of all modes.
    """
    nearest, similarity = [], []
    for chunk in positions.split(PIXELS_PER_CHUNK):
        here = normalise(points.at(chunk[None])[0])
        if local:
            label, cosine = find_nearest_group(groups, points.stride, chunk, here)
        else:
            best = (here @ groups.modes.T).max(dim=1)
            label, cosine = best.indices + 1, best.values
        nearest.append(label)
        similarity.append((1 + cosine) / 2)
    return torch.cat(nearest), torch.cat(similarity)


def find_nearest_group(
    groups: GroupMap, stride: int, positions: Float[Tensor, "pixel 2"], here: Float[Tensor, "pixel dim"]
) -> tuple[Int64[Tensor, " pixel"], Float[Tensor, " pixel"]]:
    """Return label and cosine of the nearest mode among the groups of the 3 x 3 cells around each position.

    Args:
        here: the point at each position.
    """
    rows, columns = groups.labels.shape
    bordered = functional.pad(groups.labels, (1, 1, 1, 1), value=UNGROUPED)
    cell = (positions / stride).long()
    row, column = cell[:, 0].clamp(max=rows - 1), cell[:, 1].clamp(max=columns - 1)
    label = torch.full_like(row, UNGROUPED)
    cosine = torch.full_like(here[:, 0], -1)
    for down in range(3):
        for right in range(3):
            candidate = bordered[row + down, column + right]
            grouped = (candidate != UNGROUPED).nonzero()[:, 0]
            value = (here[grouped] * groups.modes[candidate[grouped] - 1]).sum(1)
            better = (value > cosine[grouped]) | (label[grouped] == UNGROUPED)
            closer = grouped[better]
            label[closer], cosine[closer] = candidate[closer], value[better]
    return label, cosine
