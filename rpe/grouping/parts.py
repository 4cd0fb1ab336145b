"""Labels of the joint spatial-range kernel: the parts of an image that hang together in embedding and in place.

Pixels of one square cell whose diagonal is shorter than the spatial bandwidth, and of one point, surely hang together: they are one clump. What
is left is to find the pairs of clumps in near cells that touch, which takes memory linear in the pixels however wide the bandwidth.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import sparse
from torch import Tensor

from rpe.grouping.greedy import SLACK, by_mass
from rpe.grouping.weighted_points import WeightedPoints
from rpe.sphere import normalise

CELL = 0.7
"""Side of a cell in spatial bandwidths: its diagonal is 0.99."""

NEAR_CELLS = sorted(
    ((down, right) for down in range(3) for right in range(-2, 3) if (down, right) >= (0, 0)),
    key=lambda cell: cell[0] ** 2 + cell[1] ** 2,
)
"""Steps to the cells that hold pixels within a bandwidth, one of each two opposite ones, the nearest first."""

PORTION = 2**15
"""Pairs that are looked at together, to bound the memory."""


@dataclass
class Clumps:
    """`pixels` sorted by clump; of each clump where its pixels start among them and how many they are, its cell, its point, and the box around it."""

    pixels: Int64[np.ndarray, " pixel"]
    of_pixel: Int64[np.ndarray, " pixel"]
    start: Int64[np.ndarray, " clump"]
    size: Int64[np.ndarray, " clump"]
    cell: Int64[np.ndarray, "2 clump"]
    owner: Int64[np.ndarray, " clump"]
    low: Float[np.ndarray, "clump 2"]
    high: Float[np.ndarray, "clump 2"]


def connected_parts(
    swarm: WeightedPoints,
    places: Float[Tensor, "pixel 2"],
    weights: Float[Tensor, " pixel"],
    tolerance: float,
) -> tuple[Int64[Tensor, " pixel"], Int64[Tensor, " mode"]]:
    """Labels of the parts that pixels within the spatial bandwidth and points within tolerance hang together in, the heaviest first, ties by
    lowest pixel; and the heaviest point of each part."""
    owner, points = swarm.owner.cpu(), normalise(swarm.points.double().cpu()).numpy()
    part = touching_parts(
        places.double().cpu().numpy(), owner.numpy(), points, swarm.spatial_bandwidth, tolerance
    )
    names, first_pixel, part = np.unique(part, return_index=True, return_inverse=True)
    parts = len(names)
    total = np.bincount(part, weights=weights.double().cpu().numpy(), minlength=parts)
    order = np.lexsort((first_pixel, -total))
    number = np.empty(parts, dtype=np.int64)
    number[order] = np.arange(parts)
    labels = torch.from_numpy(number[part])
    # of the points in a part the heaviest, ties by index, stands for it
    lightest_first = by_mass(swarm.mass.cpu()).flip(0)
    rank = torch.empty_like(lightest_first)
    rank[lightest_first] = torch.arange(len(rank))
    best = torch.full((parts,), -1, dtype=torch.int64).scatter_reduce(0, labels, rank[owner], "amax")
    return labels.to(swarm.points.device), lightest_first[best].to(swarm.points.device)


def touching_parts(
    places: Float[np.ndarray, "pixel 2"],
    owner: Int64[np.ndarray, " pixel"],
    points: Float[np.ndarray, "point dim"],
    reach: float,
    tolerance: float,
) -> Int64[np.ndarray, " pixel"]:
    """A name for the part of each pixel. Distances are not divided by `reach`, so that those between pixel centres are exact."""
    clumps = clumps_of(places, owner, CELL * reach)
    part = np.arange(len(clumps.start))
    for one, other in near_clumps(clumps):
        apart = part[one] != part[other]
        one, other = one[apart], other[apart]
        gap = np.maximum(
            np.maximum(clumps.low[one] - clumps.high[other], clumps.low[other] - clumps.high[one]), 0
        )
        near = (gap**2).sum(1) <= reach**2
        one, other = one[near], other[near]
        mine, theirs = clumps.owner[one], clumps.owner[other]
        alike = (mine == theirs) | (
            np.einsum("pd,pd->p", points[mine], points[theirs]) >= 1 - tolerance - SLACK
        )
        one, other = one[alike], other[alike]
        span = np.maximum(clumps.high[one], clumps.high[other]) - np.minimum(
            clumps.low[one], clumps.low[other]
        )
        sure = (span**2).sum(1) <= reach**2
        part = joined(part, one[sure], other[sure])
        apart = part[one] != part[other]
        one, other = one[apart], other[apart]
        touch = touching(places, clumps, one, other, reach)
        part = joined(part, one[touch], other[touch])
    return part[clumps.of_pixel]


def clumps_of(
    places: Float[np.ndarray, "pixel 2"], owner: Int64[np.ndarray, " pixel"], side: float
) -> Clumps:
    """The clumps, sorted by cell row, cell column and point."""
    cell = np.stack([without_wide_gaps(np.floor(along / side)) for along in places.T])
    pixels = np.lexsort((owner, cell[1], cell[0]))
    new = np.ones(len(pixels), dtype=bool)
    new[1:] = (np.diff(cell[:, pixels]) != 0).any(0) | (np.diff(owner[pixels]) != 0)
    start = new.nonzero()[0]
    of_pixel = np.empty_like(pixels)
    of_pixel[pixels] = new.cumsum() - 1
    first, ordered = pixels[start], places[pixels]
    low, high = np.minimum.reduceat(ordered, start), np.maximum.reduceat(ordered, start)
    return Clumps(
        pixels, of_pixel, start, np.diff(start, append=len(pixels)), cell[:, first], owner[first], low, high
    )


def without_wide_gaps(cells: Float[np.ndarray, " pixel"]) -> Int64[np.ndarray, " pixel"]:
    """Numbers from 0 on for rows or columns of cells, with the same neighbours up to two steps away; however far apart they are, a few per pixel."""
    values, number = np.unique(cells, return_inverse=True)
    return np.minimum(np.diff(values, prepend=values[:1]), 3).cumsum().astype(np.int64)[number]


def near_clumps(clumps: Clumps) -> Iterator[tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]]:
    """All pairs of clumps in cells that may hold pixels within reach, once, in portions."""
    width = int(clumps.cell[1].max()) + 5  # with two empty columns on both sides
    key = clumps.cell[0] * width + clumps.cell[1]
    for down, right in NEAR_CELLS:
        there = key + down * width + right
        first, last = np.searchsorted(key, there), np.searchsorted(key, there, side="right")
        if (down, right) == (0, 0):
            first = np.arange(len(key)) + 1
        yield from expanded(first, last - first)


def expanded(
    first: Int64[np.ndarray, " range"], length: Int64[np.ndarray, " range"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For ranges of whole numbers, (which range, which number) of all their members, in portions of whole ranges."""
    ends = length.cumsum()
    start = 0
    while start < len(length):
        before = ends[start] - length[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + PORTION, side="right")))
        which = np.repeat(np.arange(start, stop), length[start:stop])
        yield which, np.arange(len(which)) - (ends - length)[which] + before + first[which]
        start = stop


def touching(
    places: Float[np.ndarray, "pixel 2"],
    clumps: Clumps,
    one: Int64[np.ndarray, " pair"],
    other: Int64[np.ndarray, " pair"],
    reach: float,
) -> Bool[np.ndarray, " pair"]:
    """Which pairs of clumps have a pixel each within reach: by pixel and box, pixel and first pixel, and where that leaves it open all pixels."""
    found = np.zeros(len(one), dtype=bool)
    for pair, member in expanded(clumps.start[one], clumps.size[one]):
        place, whole = places[clumps.pixels[member]], other[pair]
        gap = np.maximum(np.maximum(place - clumps.high[whole], clumps.low[whole] - place), 0)
        near = (gap**2).sum(1) <= reach**2
        pair, place, whole = pair[near], place[near], whole[near]
        at_once = ((place - places[clumps.pixels[clumps.start[whole]]]) ** 2).sum(1) <= reach**2
        found[pair[at_once]] = True
        undecided = ~found[pair]
        pair, place, whole = pair[undecided], place[undecided], whole[undecided]
        for which, fellow in expanded(clumps.start[whole], clumps.size[whole]):
            within = ((place[which] - places[clumps.pixels[fellow]]) ** 2).sum(1) <= reach**2
            found[pair[which[within]]] = True
    return found


def joined(
    part: Int64[np.ndarray, " clump"], one: Int64[np.ndarray, " pair"], other: Int64[np.ndarray, " pair"]
) -> Int64[np.ndarray, " clump"]:
    """The parts once those of each pair have become one, named by its lowest."""
    if len(one) == 0:
        return part
    names, ends = np.unique(np.stack([part[one], part[other]]), return_inverse=True)
    rows, columns = ends.reshape(2, -1)
    graph = sparse.coo_matrix(
        (np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(names), len(names))
    )
    together = sparse.csgraph.connected_components(graph, directed=False)[1]
    lowest = np.unique(together, return_index=True)[1]
    renamed = np.arange(len(part))
    renamed[names] = names[lowest[together]]
    return renamed[part]
