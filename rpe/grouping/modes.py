"""Mean shift for inference: points that have met become one, keys may be a sample, and the end is a label per pixel."""

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor

from rpe.grouping.greedy import by_mass, take_greedily
from rpe.grouping.kernel import kernel_mean, mean_over_keys
from rpe.grouping.mean_shift import MASS_RANGE, check_concentration, check_loops, check_mass, local_places
from rpe.grouping.parts import connected_parts
from rpe.grouping.weighted_points import WeightedPoints, in_order_of_pixels, merge_close, sample_of, swarm_of
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
    """The modes of one image, and each pixel's.

    Mean shift as `mean_shift`, without gradient. Before each loop and after the last, points within the merge tolerance of a
    leader become one point of their summed mass at their mean. Labels are greedy: of the points left at the end the heaviest
    unassigned one (ties: the lowest index) takes all within tolerance and is a mode. With positions, labels are the connected parts
    of {points within tolerance and pixels within the spatial bandwidth}, the heaviest part first.

    Args:
        points: of unit length, half precision to its own last digits; normalised once more.
        concentration: kappa in [0.25, 2500].
        iterations: the most loops; it ends earlier when nothing moves.
        merge_tolerance: cosine distance 1 - x . y in [0, 1).
        move_tolerance: the loops end when no point moved farther than this cosine distance, >= 0.
        keys: the kernel sums over this many pixels, drawn without replacement by a fixed seed, instead of all; an approximation.
        mass: of each pixel, in [1e-12, 1e12]; 1 where not given.
        positions: of each pixel; they never move.
        spatial_bandwidth: h in [1e-6, 1e6], in the unit of `positions`.
        blurring: as the paper, the kernel sums over the points where they have come to; False keeps it on X_0, whose density's modes the
            points then climb to.

    Raises:
        UserError: points off the sphere, or a setting out of range.
    """
    check_settings(points, concentration, iterations, merge_tolerance, move_tolerance, keys, mass)
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        # what passes for unit length may still be short by more than a small tolerance between points
        points = normalise(in_single(points))
        weights = torch.ones_like(points[:, 0]) if mass is None else mass.to(points.dtype)
        places = local_places(positions, spatial_bandwidth, weights > 0)
        if len(points) == 0:
            return Modes(points, weights, torch.arange(0, device=points.device), points.new_zeros(0))
        swarm = swarm_of(
            points, weights, None if places is None else places.to(points.dtype), spatial_bandwidth or 1.0
        )
        swarm, moves = run_loops(
            swarm, float(concentration), iterations, merge_tolerance, move_tolerance, keys, blurring
        )
        swarm = in_order_of_pixels(swarm)
        if places is None:
            leader = take_greedily(swarm.points, by_mass(swarm.mass), merge_tolerance, None, worthwhile=0.0)
            label, heads = dense_in_order_of(by_mass(swarm.mass), leader)
            labels = label[swarm.owner]
        else:
            labels, heads = connected_parts(swarm, places, weights, merge_tolerance)
        total = torch.zeros(len(heads), dtype=weights.dtype, device=weights.device).index_add(
            0, labels, weights
        )
        return Modes(
            swarm.points[heads], total, labels, torch.tensor(moves, dtype=points.dtype, device=points.device)
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
    """Refuse what `find_modes` has no meaning for.

    Raises:
        UserError: naming it.
    """
    check_points(points, pixel=None, dim=None)
    check_concentration(concentration, 1)
    check_loops(iterations, 1.0)
    if not 0 <= merge_tolerance < 1:
        raise UserError(
            f"merge_tolerance {merge_tolerance} is outside [0, 1): it is a cosine distance, usually 0.001 to 0.05"
        )
    if not move_tolerance >= 0:
        raise UserError(
            f"move_tolerance {move_tolerance} is not a distance: name the cosine distance from which a point counts as moving, 0 or more"
        )
    if keys is not None:
        check_count("keys", keys, 1, "name how many pixels the kernel sums over, or null for all")
    if mass is not None:
        check_tensor("mass", mass)
        check_shape("mass", mass, pixel=len(points))
        check_mass(mass, least=MASS_RANGE[0])
    check_unit_length(points)


def run_loops(
    swarm: WeightedPoints,
    concentration: float,
    iterations: int,
    merge_tolerance: float,
    move_tolerance: float,
    keys: int | None,
    blurring: bool,
) -> tuple[WeightedPoints, list[float]]:
    """Loop and merge until nothing moves; the swarm at the end, and how far the farthest mover went in each loop."""
    sample = None
    if not blurring or (keys is not None and keys < len(swarm.points)):
        sample = sample_of(swarm, len(swarm.points) if keys is None else keys)
    moves: list[float] = []
    for _ in range(iterations):
        swarm = merge_close(swarm, merge_tolerance)
        if sample is None:
            there = shifted(swarm, concentration)
        else:
            sample = merge_close(sample, merge_tolerance) if blurring else sample
            seen = mean_over_keys(
                swarm.points,
                sample.points,
                sample.mass,
                concentration,
                swarm.places,
                sample.places,
                swarm.spatial_bandwidth,
            )
            there = normalise(seen)
            sample.points = shifted(sample, concentration) if blurring else sample.points
        moves.append(float(cosine_distance(there, swarm.points).max()))
        swarm.points = there
        if moves[-1] <= move_tolerance:
            break
    return merge_close(swarm, merge_tolerance), moves


def shifted(swarm: WeightedPoints, concentration: float) -> Float[Tensor, "point dim"]:
    """Where one full step carries the points."""
    places = None if swarm.places is None else swarm.places[None]
    kappa = swarm.points.new_tensor([concentration])
    return normalise(
        kernel_mean(swarm.points[None], kappa, swarm.mass[None], places, swarm.spatial_bandwidth)[0]
    )


def dense_in_order_of(
    order: Int64[Tensor, " point"], leader: Int64[Tensor, " point"]
) -> tuple[Int64[Tensor, " point"], Int64[Tensor, " mode"]]:
    """Labels 0, 1, .. in the order in which the leaders come, and the leaders."""
    heads = order[leader[order] == order]
    number = torch.full_like(order, -1)
    number[heads] = torch.arange(len(heads), device=order.device)
    return number[leader], heads
