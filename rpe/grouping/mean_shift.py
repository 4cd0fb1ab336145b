"""Unroll T loops of blurring mean shift on the sphere, the paper's recurrent grouping network (section 4)."""

import math
from numbers import Real as RealNumber

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rpe.grouping.kernel import kernel_mean
from rpe.pairs import validate_positions
from rpe.sphere import (
    BANDWIDTH_RANGE,
    bandwidth_of_margin,
    check_bandwidth,
    check_points,
    check_tensor,
    check_unit_length,
    concentration_of_bandwidth,
    first_axis_like,
    in_single,
    normalise,
)
from rpe.structures import Iterates, UserError, check_count, check_shape

MASS_RANGE = (1e-12, 1e12)
"""Masses whose sums and products with the kernel fp32 represents."""

SPATIAL_RANGE = (1e-6, 1e6)
"""Spatial bandwidths whose squares fp32 represents next to those of positions."""


def check_concentration(concentration: float | Tensor, images: int) -> None:
    """Check that the bandwidth 1 / sqrt(kappa) lies in `BANDWIDTH_RANGE`.

    Raises:
        UserError: a wrong type, NaN, a value out of range, or neither one value nor one per image.
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
    low, high = (1 / bandwidth**2 for bandwidth in reversed(BANDWIDTH_RANGE))
    values = (
        concentration.detach().flatten().tolist() if isinstance(concentration, Tensor) else [concentration]
    )
    for value in values:
        # a learned bandwidth is clamped in fp32, hence the slack
        if not low * (1 - 1e-4) <= value <= high * (1 + 1e-4):
            raise UserError(
                f"concentration must be in [{low:g}, {high:g}], got {value}. "
                f"It is 1 / bandwidth^2 with a bandwidth in {list(BANDWIDTH_RANGE)}."
            )


def check_loops(iterations: int, step: float) -> None:
    """Check the number of loops and the step size.

    Raises:
        UserError: one of them is out of range.
    """
    check_count("iterations", iterations, 0, "0 runs no loop and returns the points")
    if not 0 < step <= 1:
        raise UserError(f"step must be in (0, 1], got {step}. 1 is the full mean-shift step.")


def local_positions(
    positions: Real[Tensor, "*batch pixel 2"] | None,
    spatial_bandwidth: float | None,
    present: Bool[Tensor, "*batch pixel"],
) -> Float[Tensor, "*batch pixel 2"] | None:
    """Return positions relative to the first present pixel of their image, 0 without present pixels.

    They are in floating point, in which whole and half pixels stay exact this way.

    Raises:
        UserError: only one of the two is given, positions are not (row, column) per pixel or not finite at a
            present pixel, or the spatial bandwidth h is out of range.
    """
    if (positions is None) != (spatial_bandwidth is None):
        given = "positions" if spatial_bandwidth is None else "spatial_bandwidth"
        raise UserError(f"positions and spatial_bandwidth must be given together, got {given} alone.")
    if positions is None or spatial_bandwidth is None:
        return None
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
    positions = validate_positions(positions, present)
    if present.numel() == 0:
        return positions
    first = present.int().argmax(-1)[..., None, None].expand(*present.shape[:-1], 1, 2)
    return torch.where(
        present[..., None], positions - positions.gather(-2, first), torch.zeros_like(positions)
    )


def check_mass(mass: Tensor, least: float) -> None:
    """Check that masses lie in `MASS_RANGE`, or are zero where `least` is 0.

    Raises:
        UserError: names the range.
    """
    low, high = MASS_RANGE
    if bool((~((mass >= low) & (mass <= high) | (mass == least))).any()):
        allowed = "" if least else "0 or "
        raise UserError(
            f"mass must be {allowed}in [{low:g}, {high:g}], got a negative, NaN or extreme value. "
            "It tells how often a point counts."
        )


def mean_shift(
    points: Float[Tensor, "batch pixel dim"],
    concentration: float | Tensor,
    iterations: int,
    *,
    step: float = 1.0,
    mass: Float[Tensor, "batch pixel"] | None = None,
    mask: Bool[Tensor, "batch pixel"] | None = None,
    positions: Real[Tensor, "batch pixel 2"] | None = None,
    spatial_bandwidth: float | None = None,
) -> Iterates:
    """Return the iterates X_0 .. X_T of blurring mean shift on the sphere (paper, eq. 5 and 6).

    X <- normalise((1 - eta) X + eta X K diag(1/d)), K_ij = exp(kappa x_i . x_j). Exact, differentiable in
    `points` and `concentration`, O(N D) memory per loop. Half precision is computed in fp32.

    Args:
        points: of unit length. Masked points and their positions may have any value. Half precision is
            normalised again.
        concentration: kappa in [0.25, 2500]; a number, a 0-dim tensor, or one value per image.
        iterations: T >= 0.
        step: eta in (0, 1].
        mass: weight of each point in the means of the others, in [1e-12, 1e12] (1 where not given), or 0,
            which means masked; receives no gradient.
        mask: False marks absent pixels, which count for no other point and stay where they are.
        positions: fixed positions that weigh each pair by exp(-|p_i - p_j|^2 / (2 h^2)).
        spatial_bandwidth: h in [1e-6, 1e6], in the unit of `positions`.

    Returns:
        T + 1 tensors; the first is `points`, in fp32 or fp64.

    Raises:
        UserError: a present point is not of unit length, or kappa, step, T, mass or h is out of range. In the
            backward pass: a second derivative (`create_graph=True`) is requested.
    """
    check_points(points, batch=None, pixel=None, dim=None)
    check_loops(iterations, step)
    check_concentration(concentration, len(points))
    for name, values in (("mass", mass), ("mask", mask)):
        if values is not None:
            check_tensor(name, values)
            check_shape(name, values, batch=points.shape[0], pixel=points.shape[1])
    if mask is not None and mask.dtype != torch.bool:
        raise UserError(
            f"mask must be boolean, got {mask.dtype}. Compare it, so that True marks present pixels."
        )
    with torch.autocast(points.device.type, enabled=False):
        mass = torch.ones_like(points[..., 0]) if mass is None else mass.detach()
        check_mass(mass, least=0)
        present = mass > 0 if mask is None else mask & (mass > 0)
        check_unit_length(points, present)
        points = to_unit_length(points)
        mass = mass.to(points.dtype) * present
        kappa = torch.as_tensor(concentration, dtype=points.dtype, device=points.device).expand(len(points))
        positions = local_positions(positions, spatial_bandwidth, present)
        positions = None if positions is None else positions.to(points.dtype)
        everywhere = bool(present.all())
        # absent points may have any value, which must not enter a product with a gradient
        here = points if everywhere else torch.where(present[..., None], points, first_axis_like(points))
        iterates = [points]
        for _ in range(iterations if points.numel() else 0):
            mean = kernel_mean(
                here, kappa, mass, positions, 1.0 if spatial_bandwidth is None else spatial_bandwidth
            )
            here = mean_shift_update(here, mean, step)
            iterates.append(here if everywhere else torch.where(present[..., None], here, points))
    return iterates if points.numel() else [points] * (iterations + 1)


def mean_shift_update(
    points: Float[Tensor, "*shape dim"], mean: Float[Tensor, "*shape dim"], step: float
) -> Float[Tensor, "*shape dim"]:
    """Return normalise((1 - eta) X + eta O), the points after a loop with means O."""
    return normalise(mean if step == 1 else (1 - step) * points + step * mean)


def to_unit_length(points: Float[Tensor, "batch pixel dim"]) -> Float[Tensor, "batch pixel dim"]:
    """Return points in fp32 or fp64; half precision is normalised again, as it rounds off the sphere."""
    return (
        normalise(in_single(points)) if points.dtype in (torch.float16, torch.bfloat16) else in_single(points)
    )


class ReturningClamp(torch.autograd.Function):
    """clamp(value, low, high) with a gradient outside the range where descent leads back into it, else 0.

    With torch's clamp, a value that has overshot once stays outside for ever.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, value: Float[Tensor, ""], low: float, high: float) -> Float[Tensor, ""]:
        ctx.save_for_backward(value)  # type: ignore[attr-defined]
        ctx.range = (low, high)  # type: ignore[attr-defined]
        return value.clamp(low, high)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: FunctionCtx, gradient: Float[Tensor, ""]
    ) -> tuple[Tensor, None, None]:
        (value,) = ctx.saved_tensors  # type: ignore[attr-defined]
        low, high = ctx.range  # type: ignore[attr-defined]
        farther = (value < low) & (gradient > 0) | (value > high) & (gradient < 0)
        return gradient.masked_fill(farther, 0), None, None


class MeanShift(nn.Module):
    """The recurrent grouping with its one parameter, the bandwidth b = 1 / sqrt(kappa), fixed or learned.

    Args:
        iterations: T, the loops that training unrolls.
        bandwidth: b in [0.02, 2]; None means the paper's (1 - margin) / 3.
        margin: alpha of the loss, in [0, 1).
        learn_bandwidth: keep log b as a parameter and learn it, clamped to [0.02, 2] by `ReturningClamp`.
        step: eta in (0, 1].

    Raises:
        UserError: an argument is out of range.
    """

    log_bandwidth: Tensor

    def __init__(
        self, iterations: int, bandwidth: float | None, margin: float, learn_bandwidth: bool, step: float
    ) -> None:
        super().__init__()
        check_loops(iterations, step)
        self.iterations = iterations
        self.step = step
        chosen = bandwidth_of_margin(margin) if bandwidth is None else check_bandwidth(bandwidth)
        self.learn_bandwidth = learn_bandwidth
        self.fixed_concentration = concentration_of_bandwidth(chosen)
        if learn_bandwidth:
            self.log_bandwidth = nn.Parameter(torch.tensor(math.log(chosen)))

    @property
    def concentration(self) -> float | Tensor:
        """Return kappa; a tensor with a gradient where the bandwidth is learned."""
        if not self.learn_bandwidth:
            return self.fixed_concentration
        low, high = (math.log(bandwidth) for bandwidth in BANDWIDTH_RANGE)
        return torch.exp(-2 * ReturningClamp.apply(self.log_bandwidth, low, high))

    def forward(
        self,
        points: Float[Tensor, "batch pixel dim"],
        mass: Float[Tensor, "batch pixel"] | None = None,
        mask: Bool[Tensor, "batch pixel"] | None = None,
    ) -> Iterates:
        """Return all T + 1 iterates; see `mean_shift`."""
        return mean_shift(points, self.concentration, self.iterations, step=self.step, mass=mass, mask=mask)
