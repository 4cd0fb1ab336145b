"""Group greedily without a loop over points.

In a given order, each unassigned point becomes a leader and claims all unassigned points within a tolerance.
Decisions are made in fp64 on directions normalised in fp64, so that all devices agree. Single precision only
excludes pairs that are certainly too far apart.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rpe.sphere import normalise

MAX_BLOCK = 1024
"""The most candidate leaders examined together."""

FIRST_BLOCK = 128
"""Size of the first block where merging may end early, so that finding nothing to merge is cheap."""

WORTHWHILE = 2.0
"""Merging ends for a loop when a block of leaders removed fewer points per leader than this.

Beyond that, the search costs more than it saves.
"""

TOLERANCE_SLACK = 1e-12
"""Added to a tolerance in fp64, so that equal points are within a tolerance of zero."""

ROWS = 1024
"""Points compared with a block of leaders at a time: 4 MiB in fp32, which stays in the caches."""


def order_by_mass(mass: Float[Tensor, " point"]) -> Int64[Tensor, " point"]:
    """Return the indices from the heaviest to the lightest point, ties by index."""
    return torch.sort(mass, descending=True, stable=True).indices


def assign_leaders(
    points: Float[Tensor, "point dim"],
    order: Int64[Tensor, " point"],
    tolerance: float,
    positions: Float[Tensor, "point 2"] | None,
    worthwhile: float,
    max_distance: float = math.inf,
) -> Int64[Tensor, " point"]:
    """Return each point's leader.

    In the given order, each unassigned point becomes a leader and claims all unassigned points within the
    tolerance. The result is exactly that of the sequential rule, computed in blocks of candidates. With
    `worthwhile` > 0 it ends after a block that removed fewer points per leader; each remaining point then
    leads itself.

    Args:
        points: of unit length.
        order: all points, the first leader first.
        tolerance: cosine distance.
        positions: if given, a leader also lies within `max_distance` of the points it claims.
        worthwhile: removed points per leader; 0 continues to the end.
        max_distance: in the unit of `positions`.
    """
    leader = torch.arange(len(points), device=points.device)
    left, size = order, FIRST_BLOCK if worthwhile else MAX_BLOCK
    while len(left):
        block = left[:size]
        heads = block[select_independent(are_close(points, block, block, tolerance, positions, max_distance))]
        first = torch.cat(
            [
                find_first_leaders(points, rows, heads, tolerance, positions, max_distance)
                for rows in left.split(ROWS)
            ]
        )
        taken = first < len(heads)
        leader[left[taken]] = heads[first[taken]]
        spared = int(taken.sum()) - len(heads)
        if spared < worthwhile * len(heads):
            break
        left, size = left[~taken], min(2 * size, MAX_BLOCK)
    return leader


def are_close(
    points: Float[Tensor, "point dim"],
    one: Int64[Tensor, " one"],
    other: Int64[Tensor, " other"],
    tolerance: float,
    positions: Float[Tensor, "point 2"] | None,
    max_distance: float,
) -> Bool[Tensor, "one other"]:
    """Return which pairs lie within the cosine distance, and with positions within `max_distance`; in
    fp64."""
    near = (
        normalise(points[one].double()) @ normalise(points[other].double()).t()
        >= 1 - tolerance - TOLERANCE_SLACK
    )
    return (
        near
        if positions is None
        else near & (pairwise_distances(positions[one].double(), positions[other].double()) <= max_distance)
    )


def pairwise_distances(
    one: Float[Tensor, "one 2"], other: Float[Tensor, "other 2"]
) -> Float[Tensor, "one other"]:
    """Return distances from differences; products would lose the digits of near points."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def find_first_leaders(
    points: Float[Tensor, "point dim"],
    rows: Int64[Tensor, " row"],
    heads: Int64[Tensor, " head"],
    tolerance: float,
    positions: Float[Tensor, "point 2"] | None,
    max_distance: float,
) -> Int64[Tensor, " row"]:
    """Return for each row the index of the first leader within the tolerance, or the number of leaders.

    Single precision, with a tolerance widened by its rounding, proposes a leader. If fp64 confirms it, it is
    the first, as all earlier ones failed even the wider tolerance. Otherwise, which is rare, fp64 examines
    all leaders.
    """
    # coarse products (such as TF32) err by at most 2^-8
    error = 2**-7 if has_coarse_products() else (points.shape[1] + 8) * torch.finfo(torch.float32).eps
    near = (points[rows].float() @ points[heads].float().t()).ge_(1 - tolerance - error)
    if positions is not None:
        near.mul_(pairwise_distances(positions[rows], positions[heads]) <= max_distance * (1 + 1e-3))
    first = find_first_column(near)
    found = (first < len(heads)).nonzero()[:, 0]
    one, other = rows[found], heads[first[found]]
    sure = (normalise(points[one].double()) * normalise(points[other].double())).sum(
        1
    ) >= 1 - tolerance - TOLERANCE_SLACK
    if positions is not None:
        sure &= (positions[one].double() - positions[other].double()).square().sum(1).sqrt() <= max_distance
    doubtful = found[~sure]
    if len(doubtful):
        first[doubtful] = find_first_column(
            are_close(points, rows[doubtful], heads, tolerance, positions, max_distance).float()
        )
    return first


def has_coarse_products() -> bool:
    """Return whether products of fp32 may be rounded further.

    Where the precision was set by torch's newer per-backend names, torch refuses to report it by the older
    one. The answer is then True.
    """
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:
        return True


def find_first_column(near: Float[Tensor, "row head"]) -> Int64[Tensor, " row"]:
    """Return the first column of each row that holds a 1, or the number of columns.

    The input of zeros and ones is overwritten.
    """
    width = near.shape[1]
    # a maximum is several times faster without indices; fp32 counts exactly up to such widths
    countdown = torch.arange(width, 0, -1, dtype=near.dtype, device=near.device)
    return width - near.mul_(countdown).amax(dim=1).long()


def select_independent(near: Bool[Tensor, "point point"]) -> Int64[Tensor, " head"]:
    """Return, in order, the points that are not near any earlier selected point.

    Works in rounds: a point without undecided or selected points before it is selected, a point near a
    selected one is excluded.
    """
    before = torch.tril(near, diagonal=-1).to(torch.float32)
    chosen = torch.zeros(len(near), dtype=torch.bool, device=near.device)
    undecided = torch.ones_like(chosen)
    while bool(undecided.any()):
        chosen |= undecided & (before @ (undecided | chosen).float() == 0)
        undecided &= ~chosen & (before @ chosen.float() == 0)
    return chosen.nonzero()[:, 0]
