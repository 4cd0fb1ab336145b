"""Mean shift for inference: points that have met become one, keys may be a sample, and the end is a label per pixel."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from rpe.grouping.kernel import kernel_mean, mean_over_keys
from rpe.grouping.mean_shift import check_concentration, scaled_places
from rpe.sphere import check_unit_length, cosine_distance, normalise
from rpe.structures import InputError, Modes

BLOCK = 1024
"""How many candidates for a leader are looked at together."""

WORTHWHILE = 0.05
"""Merging stops for this loop when a block of candidates spared less than this share of the points: it costs more than it saves."""

MERGE_REACH = 0.25
"""With positions, points merge only within this share of the spatial bandwidth."""


@dataclass
class Swarm:
    """Points on their way, each standing for one or more pixels; `owner` tells which point stands for a pixel.

    `places` are positions divided by the spatial bandwidth.
    """

    points: Float[Tensor, "point dim"]
    mass: Float[Tensor, " point"]
    places: Float[Tensor, "point 2"] | None
    owner: Int64[Tensor, " pixel"]


def find_modes(
    points: Float[Tensor, "pixel dim"],
    concentration: float | Tensor,
    *,
    iterations: int,
    merge_tolerance: float,
    move_tolerance: float,
    keys: int | None = None,
    mass: Float[Tensor, " pixel"] | None = None,
    positions: Float[Tensor, "pixel 2"] | None = None,
    spatial_bandwidth: float | None = None,
) -> Modes:
    """The modes of one image, and each pixel's.

    Blurring mean shift as `mean_shift`, without gradient. Before each loop and after the last, points within the merge tolerance of a
    leader become one point of their summed mass at their mean. Labels are greedy: of the points left at the end the heaviest
    unassigned one (ties: the lowest index) takes all within tolerance and is a mode. With positions, labels are the connected parts
    of {points within tolerance and pixels within the spatial bandwidth}, the heaviest part first.

    Args:
        points: of unit length.
        concentration: kappa in [0.25, 2500].
        iterations: the most loops; it ends earlier when nothing moves.
        merge_tolerance: cosine distance 1 - x . y in [0, 1).
        move_tolerance: the loops end when no point moved farther than this cosine distance.
        keys: the kernel sums over this many pixels, drawn without replacement by a fixed seed, instead of all; an approximation.
        mass: of each pixel, > 0; 1 where not given.
        positions: of each pixel; they never move.
        spatial_bandwidth: h, in the unit of `positions`.

    Raises:
        InputError: points off the sphere, or a setting out of range.
    """
    check_concentration(concentration)
    if not 0 <= merge_tolerance < 1:
        raise InputError(f"merge_tolerance {merge_tolerance} is outside [0, 1): it is a cosine distance, usually 0.001 to 0.05")
    if keys is not None and keys < 1:
        raise InputError(f"keys {keys} is not positive: name how many pixels the kernel sums over, or null for all")
    if mass is not None and bool((~(mass > 0)).any()):
        raise InputError("mass holds a value that is not positive: leave absent pixels out of the points")
    check_unit_length(points)
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        points = points if points.dtype == torch.float64 else points.float()
        weights = torch.ones_like(points[:, 0]) if mass is None else mass.to(points.dtype)
        places = scaled_places(positions, spatial_bandwidth)
        swarm = Swarm(
            points,
            weights,
            None if places is None else places.to(points.dtype),
            torch.arange(len(points), device=points.device),
        )
        if len(points) == 0:
            return Modes(points, weights, swarm.owner, points.new_zeros(0))
        swarm, moves = run_loops(swarm, float(concentration), iterations, merge_tolerance, move_tolerance, keys)
        if places is None:
            leader = take_greedily(swarm.points.double(), by_mass(swarm.mass), merge_tolerance, None, worthwhile=0.0)
            label, heads = dense_in_order_of(by_mass(swarm.mass), leader)
            labels = label[swarm.owner]
        else:
            labels, heads = connected_parts(swarm, places, weights, merge_tolerance)
        total = torch.zeros(len(heads), dtype=weights.dtype, device=weights.device).index_add(0, labels, weights)
        return Modes(swarm.points[heads], total, labels, torch.tensor(moves, dtype=points.dtype, device=points.device))


def run_loops(
    swarm: Swarm, concentration: float, iterations: int, merge_tolerance: float, move_tolerance: float, keys: int | None
) -> tuple[Swarm, list[float]]:
    """Loop and merge until nothing moves; the swarm at the end, and how far the farthest mover went in each loop."""
    sample = None if keys is None or keys >= len(swarm.points) else sample_of(swarm, keys)
    moves: list[float] = []
    for _ in range(iterations):
        swarm = merged(swarm, merge_tolerance)
        if sample is None:
            there = shifted(swarm, concentration)
        else:
            sample = merged(sample, merge_tolerance)
            mean = mean_over_keys(swarm.points, sample.points, sample.mass, concentration, swarm.places, sample.places)
            there = normalise(mean)
            sample.points = shifted(sample, concentration)
        moves.append(float(cosine_distance(there, swarm.points).max()))
        swarm.points = there
        if moves[-1] <= move_tolerance:
            break
    return merged(swarm, merge_tolerance), moves


def shifted(swarm: Swarm, concentration: float) -> Float[Tensor, "point dim"]:
    """Where one full step carries the points."""
    places = None if swarm.places is None else swarm.places[None]
    kappa = swarm.points.new_tensor([concentration])
    return normalise(kernel_mean(swarm.points[None], kappa, swarm.mass[None], places)[0])


def sample_of(swarm: Swarm, keys: int) -> Swarm:
    """Some of the points, drawn without replacement; the seed is fixed, so that an image has one answer on every device."""
    drawn = torch.randperm(len(swarm.points), generator=torch.Generator().manual_seed(0))[:keys].to(swarm.points.device)
    places = None if swarm.places is None else swarm.places[drawn]
    return Swarm(swarm.points[drawn], swarm.mass[drawn], places, torch.arange(keys, device=swarm.points.device))


def merged(swarm: Swarm, tolerance: float) -> Swarm:
    """The swarm with points of one place in one: summed mass, mean direction and position weighted by mass."""
    # equal masses come in a random order, so that the first block of candidates meets every large group
    shuffle = torch.randperm(len(swarm.points), generator=torch.Generator().manual_seed(0)).to(swarm.points.device)
    order = shuffle[by_mass(swarm.mass[shuffle])]
    leader = take_greedily(swarm.points, order, tolerance, swarm.places, worthwhile=WORTHWHILE)
    heads, member = torch.unique(leader, return_inverse=True)
    if len(heads) == len(swarm.points):
        return swarm

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(len(heads), *values.shape[1:], dtype=values.dtype, device=values.device).index_add(0, member, values)

    mass = summed(swarm.mass)
    places = None if swarm.places is None else summed(swarm.places * swarm.mass[:, None]) / mass[:, None]
    return Swarm(normalise(summed(swarm.points * swarm.mass[:, None])), mass, places, member[swarm.owner])


def by_mass(mass: Float[Tensor, " point"]) -> Int64[Tensor, " point"]:
    """Indices from the heaviest to the lightest, ties by index."""
    return torch.sort(mass, descending=True, stable=True).indices


def take_greedily(
    points: Float[Tensor, "point dim"],
    order: Int64[Tensor, " point"],
    tolerance: float,
    places: Float[Tensor, "point 2"] | None,
    worthwhile: float,
) -> Int64[Tensor, " point"]:
    """In the given order, the first point nobody has taken takes all untaken ones within tolerance; returns each point's taker.

    Exactly the sequential rule, in blocks of candidates. With `worthwhile` > 0 it stops after a block that spared fewer points than
    this share of all; the rest then take themselves.
    """
    taker = torch.arange(len(points), device=points.device)
    left = order
    while len(left):
        block = left[:BLOCK]
        near = within(points, block, block, tolerance, places)
        heads = block[first_independent(near)]
        taken = torch.full_like(left, -1)
        for start in range(0, len(left), 16 * BLOCK):
            rows = left[start : start + 16 * BLOCK]
            # the first taker in order wins
            rank = torch.arange(len(heads), device=points.device).expand(len(rows), -1)
            reachable = within(points, rows, heads, tolerance, places)
            first = torch.where(reachable, rank, len(heads)).min(dim=1).values
            taken[start : start + 16 * BLOCK] = torch.where(first < len(heads), heads[first.clamp(max=len(heads) - 1)], -1)
        done = taken >= 0
        taker[left[done]] = taken[done]
        spared = int(done.sum()) - len(heads)
        if spared < worthwhile * len(points):
            break
        left = left[~done]
    return taker


def within(
    points: Float[Tensor, "point dim"],
    one: Int64[Tensor, " one"],
    other: Int64[Tensor, " other"],
    tolerance: float,
    places: Float[Tensor, "point 2"] | None,
) -> Bool[Tensor, "one other"]:
    """Which pairs lie within the cosine distance, and with positions within `MERGE_REACH` of the spatial bandwidth; each with itself."""
    near = points[one] @ points[other].t() >= 1 - tolerance
    if places is not None:
        near &= torch.cdist(places[one], places[other]) <= MERGE_REACH
    return near | (one[:, None] == other)


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


def dense_in_order_of(order: Int64[Tensor, " point"], leader: Int64[Tensor, " point"]) -> tuple[Int64[Tensor, " point"], Int64[Tensor, " mode"]]:
    """Labels 0, 1, .. in the order in which the leaders come, and the leaders."""
    heads = order[leader[order] == order]
    number = torch.full_like(order, -1)
    number[heads] = torch.arange(len(heads), device=order.device)
    return number[leader], heads


def connected_parts(
    swarm: Swarm, places: Float[Tensor, "pixel 2"], weights: Float[Tensor, " pixel"], tolerance: float
) -> tuple[Int64[Tensor, " pixel"], Int64[Tensor, " mode"]]:
    """Labels of the parts that pixels within the spatial bandwidth and points within tolerance hang together in, the heaviest first, ties by
    lowest pixel; and the heaviest point of each part."""
    owner, points = swarm.owner.cpu(), swarm.points.double().cpu()
    count = len(owner)
    graph = sparse.csr_matrix((count, count), dtype=bool)
    for pairs in pairs_within_reach(places.double().cpu().numpy()):
        one, other = owner[pairs[:, 0]], owner[pairs[:, 1]]
        alike = (one == other) | ((points[one] * points[other]).sum(1) >= 1 - tolerance)
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
    portion = 4 * BLOCK
    for start in range(0, len(places), portion):
        part = cKDTree(places[start : start + portion])
        found = part.sparse_distance_matrix(tree, 1.0, output_type="coo_matrix")
        pairs = np.stack([found.row.astype(np.int64) + start, found.col.astype(np.int64)], axis=1)
        yield pairs[pairs[:, 0] < pairs[:, 1]]
