"""Run mean shift for inference: merge coinciding points, optionally sample the keys, label each pixel."""

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor

from rpe.grouping.arguments import (
    MASS_RANGE,
    check_concentration,
    check_loops,
    check_mass,
    check_positions,
    local_positions,
)
from rpe.grouping.greedy import assign_leaders, order_by_mass
from rpe.grouping.kernel import kernel_mean, mean_over_keys
from rpe.grouping.parts import label_components
from rpe.grouping.weighted_points import WeightedPoints, merge_close, sample_keys, sort_by_pixel, start_points
from rpe.pairs import validate_positions
from rpe.sphere import check_points, check_tensor, check_unit_length, cosine_distance, in_single, normalise
from rpe.structures import Modes, UserError, check_count, check_shape


def find_modes(
    points: Float[Tensor, "pixel dim"],
    concentration: float | Tensor,
    *,
    iterations: int,
    merge_tolerance: float,
    move_tolerance: float,
    keys: int | None = None,
    mass: Float[Tensor, " pixel"] | None = None,
    positions: Real[Tensor, "pixel 2"] | None = None,
    spatial_bandwidth: float | None = None,
    blurring: bool = True,
) -> Modes:
    """Find the modes of one image and the mode of each pixel.

    Mean shift as `mean_shift`, without gradient. Before each loop and after the last, points within the merge
    tolerance of a leader are merged into one point of their summed mass at their mean, as far as that saves
    time (`WORTHWHILE`), and with positions only within `MERGE_RANGE` bandwidths. Labels are greedy: the
    heaviest unassigned point (ties: the lowest index) becomes a mode and claims all unassigned points within
    the tolerance. With positions, labels are the connected components under points within the tolerance and
    pixels within the spatial bandwidth, sorted by descending mass.

    Args:
        points: of unit length, half precision up to its own last digits; normalised again.
        concentration: kappa in [0.25, 2500].
        iterations: the most loops; fewer when nothing moves.
        merge_tolerance: cosine distance 1 - x . y in [0, 1).
        move_tolerance: the loops end when no point moved farther than this cosine distance, >= 0.
        keys: an approximation: the kernel sums over this many pixels, drawn without replacement with a fixed
            seed, instead of all.
        mass: of each pixel, in [1e-12, 1e12]; 1 where not given.
        positions: of each pixel; they never move.
        spatial_bandwidth: h in [1e-6, 1e6], in the unit of `positions`.
        blurring: True sums the kernel over the moved points, as in the paper. False sums over X_0, so that
            points climb to the modes of its density.

    Raises:
        UserError: a point is not of unit length, or an argument is out of range.
    """
    check_settings(points, concentration, iterations, merge_tolerance, move_tolerance, keys, mass)
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        # the length may be off by more than a small merge tolerance
        points = normalise(in_single(points))
        weights = torch.ones_like(points[:, 0]) if mass is None else mass.to(points.dtype)
        check_positions(positions, spatial_bandwidth, weights > 0)
        if positions is not None:
            positions = local_positions(validate_positions(positions, weights > 0), weights > 0)
        if len(points) == 0:
            return Modes(points, weights, torch.arange(0, device=points.device), points.new_zeros(0))
        weighted = start_points(
            points,
            weights,
            None if positions is None else positions.to(points.dtype),
            spatial_bandwidth or 1.0,
        )
        weighted, moves = run_loops(
            weighted, float(concentration), iterations, merge_tolerance, move_tolerance, keys, blurring
        )
        weighted = sort_by_pixel(weighted)
        if positions is None:
            leader = assign_leaders(
                weighted.points, order_by_mass(weighted.mass), merge_tolerance, None, worthwhile=0.0
            )
            label, heads = number_leaders(order_by_mass(weighted.mass), leader)
            labels = label[weighted.owner]
        else:
            labels, heads = label_components(weighted, positions, weights, merge_tolerance)
        total = torch.zeros(len(heads), dtype=weights.dtype, device=weights.device).index_add(
            0, labels, weights
        )
        return Modes(
            weighted.points[heads],
            total,
            labels,
            torch.tensor(moves, dtype=points.dtype, device=points.device),
        )


def check_settings(
    points: Tensor,
    concentration: float | Tensor,
    iterations: int,
    merge_tolerance: float,
    move_tolerance: float,
    keys: int | None,
    mass: Tensor | None,
) -> None:
    """Check the arguments of `find_modes`.

    Raises:
        UserError: one of them is out of range.
    """
    check_points(points, pixel=None, dim=None)
    check_concentration(concentration, 1)
    check_loops(iterations, 1.0)
    if not 0 <= merge_tolerance < 1:
        raise UserError(
            f"merge_tolerance must be in [0, 1), got {merge_tolerance}. "
            "It is a cosine distance, usually 0.001 to 0.05."
        )
    if not move_tolerance >= 0:
        raise UserError(
            f"move_tolerance must be >= 0, got {move_tolerance}. "
            "It is the cosine distance above which a point counts as moving."
        )
    if keys is not None:
        check_count("keys", keys, 1, "it is the number of pixels the kernel sums over; null means all")
    if mass is not None:
        check_tensor("mass", mass)
        check_shape("mass", mass, pixel=len(points))
        check_mass(mass, least=MASS_RANGE[0])
    check_unit_length(points)


def run_loops(
    weighted: WeightedPoints,
    concentration: float,
    iterations: int,
    merge_tolerance: float,
    move_tolerance: float,
    keys: int | None,
    blurring: bool,
) -> tuple[WeightedPoints, list[float]]:
    """Alternate loops and merging until nothing moves.

    Args:
        weighted: the points to move.
        concentration: kappa of the kernel.
        iterations: the largest number of loops.
        merge_tolerance: cosine distance within which points are merged before each loop.
        move_tolerance: largest move at which loops end early.
        keys: number of points drawn as keys; None is all.
        blurring: the keys move too.

    Returns:
        The points at the end, and the largest move in each loop.
    """
    sample = None
    if not blurring or (keys is not None and keys < len(weighted.points)):
        sample = sample_keys(weighted, len(weighted.points) if keys is None else keys)
    moves: list[float] = []
    for _ in range(iterations):
        weighted = merge_close(weighted, merge_tolerance)
        if sample is None:
            there = shift_points(weighted, concentration)
        else:
            sample = merge_close(sample, merge_tolerance) if blurring else sample
            seen = mean_over_keys(
                weighted.points,
                sample.points,
                sample.mass,
                concentration,
                weighted.positions,
                sample.positions,
                weighted.spatial_bandwidth,
            )
            there = normalise(seen)
            sample.points = shift_points(sample, concentration) if blurring else sample.points
        moves.append(float(cosine_distance(there, weighted.points).max()))
        weighted.points = there
        if moves[-1] <= move_tolerance:
            break
    return merge_close(weighted, merge_tolerance), moves


def shift_points(weighted: WeightedPoints, concentration: float) -> Float[Tensor, "point dim"]:
    """Return the points after one full step."""
    positions = None if weighted.positions is None else weighted.positions[None]
    kappa = weighted.points.new_tensor([concentration])
    return normalise(
        kernel_mean(weighted.points[None], kappa, weighted.mass[None], positions, weighted.spatial_bandwidth)[
            0
        ]
    )


def number_leaders(
    order: Int64[Tensor, " point"], leader: Int64[Tensor, " point"]
) -> tuple[Int64[Tensor, " point"], Int64[Tensor, " mode"]]:
    """Return labels 0, 1, .. in the order of the leaders, and the leaders."""
    heads = order[leader[order] == order]
    number = torch.full_like(order, -1)
    number[heads] = torch.arange(len(heads), device=order.device)
    return number[leader], heads
