"""Greedy grouping: in a given order, whoever nobody has taken takes all that are left within a tolerance. No loop over points.

Decisions are made in fp64 on directions normalised in fp64, so that the same points get the same takers on every device; single precision
only sorts out the pairs that are surely too far.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rpe.sphere import normalise

BLOCK = 1024
"""The most candidates for a leader that are looked at together."""

FIRST_BLOCK = 128
"""Where it may end early, the first block is small: to find that nothing meets should cost little."""

WORTHWHILE = 2.0
"""Merging ends for this loop when a block of leaders spared fewer points than this a leader: looking costs more than it saves."""

SLACK = 1e-12
"""Added to a tolerance in fp64, so that equal points are within a tolerance of zero."""

ROWS = 1024
"""Points that are compared with a block of leaders at a time: 4 MiB in fp32, which stays in the caches."""


def by_mass(mass: Float[Tensor, " point"]) -> Int64[Tensor, " point"]:
    """Indices from the heaviest to the lightest, ties by index."""
    return torch.sort(mass, descending=True, stable=True).indices


def take_greedily(
    points: Float[Tensor, "point dim"],
    order: Int64[Tensor, " point"],
    tolerance: float,
    places: Float[Tensor, "point 2"] | None,
    worthwhile: float,
    reach: float = math.inf,
) -> Int64[Tensor, " point"]:
    """In the given order, the first point nobody has taken takes all untaken ones within tolerance; returns each point's taker.

    Exactly the sequential rule, in blocks of candidates. With `worthwhile` > 0 it ends after a block that spared fewer points than that
    for each of its leaders; the points left then take themselves.

    Args:
        points: of unit length.
        order: all points, the first to take first.
        tolerance: cosine distance.
        places: positions; with them a taker also lies within `reach` of what it takes.
        worthwhile: points spared a leader; 0 goes on to the end.
        reach: in the unit of `places`.
    """
    taker = torch.arange(len(points), device=points.device)
    left, size = order, FIRST_BLOCK if worthwhile else BLOCK
    while len(left):
        block = left[:size]
        heads = block[first_independent(within(points, block, block, tolerance, places, reach))]
        first = torch.cat(
            [first_takers(points, rows, heads, tolerance, places, reach) for rows in left.split(ROWS)]
        )
        taken = first < len(heads)
        taker[left[taken]] = heads[first[taken]]
        spared = int(taken.sum()) - len(heads)
        if spared < worthwhile * len(heads):
            break
        left, size = left[~taken], min(2 * size, BLOCK)
    return taker


def within(
    points: Float[Tensor, "point dim"],
    one: Int64[Tensor, " one"],
    other: Int64[Tensor, " other"],
    tolerance: float,
    places: Float[Tensor, "point 2"] | None,
    reach: float,
) -> Bool[Tensor, "one other"]:
    """Which pairs lie within the cosine distance, and with positions within reach; in fp64."""
    near = normalise(points[one].double()) @ normalise(points[other].double()).t() >= 1 - tolerance - SLACK
    return near if places is None else near & (apart(places[one].double(), places[other].double()) <= reach)


def apart(one: Float[Tensor, "one 2"], other: Float[Tensor, "other 2"]) -> Float[Tensor, "one other"]:
    """Distances, as differences: the way by products loses the digits of near ones."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def first_takers(
    points: Float[Tensor, "point dim"],
    rows: Int64[Tensor, " row"],
    heads: Int64[Tensor, " head"],
    tolerance: float,
    places: Float[Tensor, "point 2"] | None,
    reach: float,
) -> Int64[Tensor, " row"]:
    """For each row the number of the first head within tolerance; the number of heads where none is.

    Single precision, with a tolerance widened by its rounding, names a first head; if fp64 agrees that this one is within tolerance it is the
    first, as all before it were too far even for the wider one. Where it does not agree, which is rare, fp64 looks at all heads.
    """
    # coarse products (TF32 and the like) err by 2^-8 at the most
    error = 2**-7 if coarse_products() else (points.shape[1] + 8) * torch.finfo(torch.float32).eps
    near = (points[rows].float() @ points[heads].float().t()).ge_(1 - tolerance - error)
    if places is not None:
        near.mul_(apart(places[rows], places[heads]) <= reach * (1 + 1e-3))
    first = first_of(near)
    found = (first < len(heads)).nonzero()[:, 0]
    one, other = rows[found], heads[first[found]]
    sure = (normalise(points[one].double()) * normalise(points[other].double())).sum(
        1
    ) >= 1 - tolerance - SLACK
    if places is not None:
        sure &= (places[one].double() - places[other].double()).square().sum(1).sqrt() <= reach
    doubtful = found[~sure]
    if len(doubtful):
        first[doubtful] = first_of(within(points, rows[doubtful], heads, tolerance, places, reach).float())
    return first


def coarse_products() -> bool:
    """Whether products of fp32 may be rounded further. Where the precision was set by the newer names, one a backend, torch refuses to say it
    by the older one: then they may."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:
        return True


def first_of(near: Float[Tensor, "row head"]) -> Int64[Tensor, " row"]:
    """The first column that holds a 1, the number of columns where none does; overwrites its input of zeros and ones."""
    width = near.shape[1]
    # a maximum of values is several times faster than one of values with their places; fp32 counts exactly so far
    countdown = torch.arange(width, 0, -1, dtype=near.dtype, device=near.device)
    return width - near.mul_(countdown).amax(dim=1).long()


def first_independent(near: Bool[Tensor, "point point"]) -> Int64[Tensor, " head"]:
    """Going through the points in order, those that no earlier chosen one is near to.

    In rounds: whoever has no open or chosen point before it is chosen, whoever has a chosen one before it is out.
    """
    before = torch.tril(near, diagonal=-1).to(torch.float32)
    chosen = torch.zeros(len(near), dtype=torch.bool, device=near.device)
    undecided = torch.ones_like(chosen)
    while bool(undecided.any()):
        chosen |= undecided & (before @ (undecided | chosen).float() == 0)
        undecided &= ~chosen & (before @ chosen.float() == 0)
    return chosen.nonzero()[:, 0]
