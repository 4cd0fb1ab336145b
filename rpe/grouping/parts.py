"""Labels of the joint spatial-range kernel: the parts of an image that hang together in embedding and in place."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from rpe.grouping.greedy import SLACK, by_mass
from rpe.grouping.swarm import Swarm
from rpe.sphere import normalise

PORTION = 4096
"""Pixels whose neighbours are looked up at a time, to bound the memory."""


def connected_parts(
    swarm: Swarm, places: Float[Tensor, "pixel 2"], weights: Float[Tensor, " pixel"], tolerance: float
) -> tuple[Int64[Tensor, " pixel"], Int64[Tensor, " mode"]]:
    """Labels of the parts that pixels within the spatial bandwidth and points within tolerance hang together in, the heaviest first, ties by
    lowest pixel; and the heaviest point of each part."""
    owner, points = swarm.owner.cpu(), normalise(swarm.points.double().cpu())
    count = len(owner)
    graph = sparse.csr_matrix((count, count), dtype=bool)
    for pairs in pairs_within_reach(places.double().cpu().numpy()):
        one, other = owner[pairs[:, 0]], owner[pairs[:, 1]]
        alike = (one == other) | ((points[one] * points[other]).sum(1) >= 1 - tolerance - SLACK)
        rows, columns = pairs[alike.numpy()].T
        graph = graph + sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    parts, part = sparse.csgraph.connected_components(graph, directed=False)
    total = np.bincount(part, weights=weights.double().cpu().numpy(), minlength=parts)
    first_pixel = np.unique(part, return_index=True)[1]
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


def pairs_within_reach(places: Float[np.ndarray, "pixel 2"]) -> Iterator[Int64[np.ndarray, "pair 2"]]:
    """Pairs of pixels at most one spatial bandwidth apart, in portions that bound the memory."""
    tree = cKDTree(places)
    for start in range(0, len(places), PORTION):
        part = cKDTree(places[start : start + PORTION])
        found = part.sparse_distance_matrix(tree, 1.0, output_type="coo_matrix")
        pairs = np.stack([found.row.astype(np.int64) + start, found.col.astype(np.int64)], axis=1)
        yield pairs[pairs[:, 0] < pairs[:, 1]]
