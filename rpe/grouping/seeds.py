"""Find modes from a few seeds: the seeds climb, their end points are merged, each pixel takes the nearest."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.grouping.arguments import check_concentration, check_loops
from rpe.grouping.greedy import assign_leaders
from rpe.grouping.kernel import mean_over_keys
from rpe.sphere import check_points, check_unit_length, cosine_distance, in_single, normalise
from rpe.structures import Modes, check_count

CANDIDATES = 10
"""Pixels drawn at random for each seed; the seeds are the farthest of these.

The farthest of all pixels are outliers: with 2 % of noise, 100 such seeds miss groups of 2 % of the image.
"""

PIXELS_AT_ONCE = 65536
"""Pixels compared with the modes at once, to bound the memory."""


def find_modes_from_seeds(
    points: Float[Tensor, "pixel dim"],
    concentration: float,
    *,
    seeds: int,
    iterations: int,
    merge_tolerance: float,
    move_tolerance: float,
    keys: int | None,
) -> Modes:
    """Find modes as `find_modes` with `blurring=False`, but from some pixels only, in O(N x modes) time.

    The seeds are farthest-point samples of `CANDIDATES` random pixels each (fixed seed). They climb the
    density of the keys. End points within the merge tolerance of an earlier one are merged. A pixel takes the
    mode nearest to its own point, not the one that it would climb to.

    Args:
        points, concentration, iterations, merge_tolerance, move_tolerance: see `find_modes`.
        seeds: number of seeds, >= 1.
        keys: the density is that of this many random pixels; None takes all.

    Raises:
        UserError: a point is not of unit length, or an argument is out of range.
    """
    check_points(points, pixel=None, dim=None)
    check_concentration(concentration, 1)
    check_loops(iterations, 1.0)
    check_count("seeds", seeds, 1, "it is the number of points that climb; null takes all pixels")
    check_unit_length(points)
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        points = normalise(in_single(points))
        if len(points) == 0:
            empty = points.new_zeros(0)
            return Modes(points, empty, empty.long(), empty)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0)).to(points.device)
        drawn = points[order[:keys]]
        mass = torch.ones_like(drawn[:, 0])
        here = points[order[: CANDIDATES * seeds]]
        here = here[choose_farthest(here, seeds)]
        moves = []
        for _ in range(iterations):
            there = normalise(mean_over_keys(here, drawn, mass, float(concentration)))
            moves.append(cosine_distance(there, here).max())
            here = there
            if float(moves[-1]) <= move_tolerance:
                break
        leaders = assign_leaders(
            here, torch.arange(len(here), device=here.device), merge_tolerance, None, worthwhile=0.0
        )
        modes = here[torch.unique(leaders)]
        nearest = torch.cat([(part @ modes.T).argmax(1) for part in points.split(PIXELS_AT_ONCE)])
        count = torch.bincount(nearest, minlength=len(modes))
        heaviest = torch.sort(count, descending=True, stable=True).indices[: int((count > 0).sum())]
        number = torch.zeros_like(count)
        number[heaviest] = torch.arange(len(heaviest), device=number.device)
        return Modes(
            modes[heaviest],
            count[heaviest].to(points.dtype),
            number[nearest],
            torch.stack(moves) if moves else points.new_zeros(0),
        )


def choose_farthest(points: Float[Tensor, "point dim"], count: int) -> Int64[Tensor, " chosen"]:
    """Return the first point, then again and again the point whose nearest chosen one is farthest.

    All points where there are no more than `count`.
    """
    if len(points) <= count:
        return torch.arange(len(points), device=points.device)
    chosen = torch.zeros(count, dtype=torch.int64, device=points.device)
    nearest = points @ points[0]
    for index in range(1, count):
        chosen[index] = nearest.argmin()
        nearest = torch.maximum(nearest, points @ points[chosen[index]])
    return chosen
