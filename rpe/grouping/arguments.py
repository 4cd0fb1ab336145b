"""Check the arguments of mean shift, their types and shapes one by one, their values in one reading."""

from numbers import Real as RealNumber

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from rpe.pairs import find_infinite, float_positions, validate_positions
from rpe.sphere import BANDWIDTH_RANGE, any_true, check_tensor, check_unit_length, find_unscaled
from rpe.structures import UserError, check_count

MASS_RANGE = (1e-12, 1e12)
"""Masses whose sums and products with the kernel fp32 represents."""

SPATIAL_RANGE = (1e-6, 1e6)
"""Spatial bandwidths whose squares fp32 represents next to those of positions."""


CONCENTRATION_RANGE = (1 / BANDWIDTH_RANGE[1] ** 2, 1 / BANDWIDTH_RANGE[0] ** 2)
"""Range of kappa, that of `BANDWIDTH_RANGE`."""

CLAMP_SLACK = 1e-4
"""Share by which kappa may exceed its range: a learned bandwidth is clamped in fp32."""


def check_concentration(concentration: float | Tensor, images: int) -> None:
    """Check that the bandwidth 1 / sqrt(kappa) lies in `BANDWIDTH_RANGE`.

    Raises:
        UserError: a wrong type, NaN, a value out of range, or neither one value nor one per image.
    """
    check_concentration_type(concentration, images)
    low, high = CONCENTRATION_RANGE
    values = (
        concentration.detach().flatten().tolist() if isinstance(concentration, Tensor) else [concentration]
    )
    for value in values:
        if not low * (1 - CLAMP_SLACK) <= value <= high * (1 + CLAMP_SLACK):
            raise UserError(
                f"concentration must be in [{low:g}, {high:g}], got {value}. "
                f"It is 1 / bandwidth^2 with a bandwidth in {list(BANDWIDTH_RANGE)}."
            )


def check_concentration_type(concentration: float | Tensor, images: int) -> None:
    """Check that kappa is a number, or a tensor of one or of one per image.

    Raises:
        UserError: names the type or the shape.
    """
    if not isinstance(concentration, RealNumber):
        if concentration is None or not isinstance(concentration, Tensor):
            raise UserError(
                f"concentration must be a number, or a tensor of one per image, got {concentration!r}."
            )
        check_tensor("concentration", concentration)
    if isinstance(concentration, Tensor) and (
        concentration.dim() > 1 or concentration.numel() not in (1, images)
    ):
        raise UserError(
            f"concentration must be one number, or one for each of the {images} images, "
            f"got the shape {list(concentration.shape)}."
        )


def check_loops(iterations: int, step: float = 1.0) -> None:
    """Check the number of loops and the step size.

    Raises:
        UserError: one of them is out of range.
    """
    check_count("iterations", iterations, 0, "0 runs no loop and returns the points")
    if not 0 < step <= 1:
        raise UserError(f"step must be in (0, 1], got {step}. 1 is the full mean-shift step.")


def check_positions(
    positions: Real[Tensor, "*batch pixel 2"] | None,
    spatial_bandwidth: float | None,
    present: Bool[Tensor, "*batch pixel"],
) -> None:
    """Check positions and the spatial bandwidth h, without reading values of a tensor.

    Raises:
        UserError: only one of the two is given, positions are not (row, column) per pixel, or h is out of
            range.
    """
    if (positions is None) != (spatial_bandwidth is None):
        given = "positions" if spatial_bandwidth is None else "spatial_bandwidth"
        raise UserError(f"positions and spatial_bandwidth must be given together, got {given} alone.")
    if positions is None or spatial_bandwidth is None:
        return
    check_tensor("positions", positions)
    if positions.shape != (*present.shape, 2):
        raise UserError(
            f"positions must have the shape {[*present.shape, 2]}, a row and a column per point, "
            f"got {list(positions.shape)}."
        )
    low, high = SPATIAL_RANGE
    if not low <= spatial_bandwidth <= high:
        raise UserError(
            f"spatial_bandwidth must be in [{low:g}, {high:g}], got {spatial_bandwidth}. "
            "It is a distance in the unit of the positions."
        )


def local_positions(
    positions: Real[Tensor, "*batch pixel 2"], present: Bool[Tensor, "*batch pixel"]
) -> Float[Tensor, "*batch pixel 2"]:
    """Return positions relative to the first present pixel of their image, 0 without present pixels.

    They are in floating point, in which whole and half pixels stay exact this way.
    """
    positions = float_positions(positions)
    if present.numel() == 0:
        return positions
    first = present.int().argmax(-1)[..., None, None].expand(*present.shape[:-1], 1, 2)
    return torch.where(
        present[..., None], positions - positions.gather(-2, first), torch.zeros_like(positions)
    )


def find_wrong_mass(mass: Tensor, least: float) -> Bool[Tensor, "..."]:
    """Return True for masses outside `MASS_RANGE` that are not `least`."""
    low, high = MASS_RANGE
    return ~((mass >= low) & (mass <= high) | (mass == least))


def check_mass(mass: Tensor, least: float) -> None:
    """Check that masses lie in `MASS_RANGE`, or are zero where `least` is 0.

    Raises:
        UserError: names the range.
    """
    if bool(find_wrong_mass(mass, least).any()):
        low, high = MASS_RANGE
        allowed = "" if least else "0 or "
        raise UserError(
            f"mass must be {allowed}in [{low:g}, {high:g}], got a negative, NaN or extreme value. "
            "It tells how often a point counts."
        )


def check_all_values(
    points: Float[Tensor, "batch pixel dim"],
    concentration: float | Tensor,
    mass: Float[Tensor, "batch pixel"] | None,
    present: Bool[Tensor, "batch pixel"],
    positions: Real[Tensor, "batch pixel 2"] | None,
) -> None:
    """Check the values of all tensors in one reading; only a wrong one is looked for closer.

    Raises:
        UserError: names the first wrong argument.
    """
    wrong = [find_unscaled(points, present)]
    if isinstance(concentration, Tensor):
        low, high = CONCENTRATION_RANGE
        kappa = concentration.detach()
        inside = (kappa >= low * (1 - CLAMP_SLACK)) & (kappa <= high * (1 + CLAMP_SLACK))
        wrong.append(~inside.to(points.device))
    else:
        check_concentration(concentration, len(points))
    if mass is not None:
        wrong.append(find_wrong_mass(mass, 0))
    if positions is not None:
        wrong.append(find_infinite(positions, present))
    if any_true(*wrong):
        check_concentration(concentration, len(points))
        if mass is not None:
            check_mass(mass, least=0)
        check_unit_length(points, present)
        if positions is not None:
            validate_positions(positions, present)
