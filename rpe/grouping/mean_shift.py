"""T loops of blurring mean shift on the sphere, unrolled: the recurrent grouping network of the paper (section 4)."""

import math
from numbers import Real as RealNumber

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rpe.grouping.kernel import kernel_mean
from rpe.pairs import checked_positions
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
"""Masses whose sums and products with the kernel fp32 holds."""

SPATIAL_RANGE = (1e-6, 1e6)
"""Spatial bandwidths whose squares fp32 holds beside those of positions."""


def check_concentration(concentration: float | Tensor, images: int) -> None:
    """Refuse a concentration whose bandwidth 1 / sqrt(kappa) lies outside `BANDWIDTH_RANGE`, or that is NaN.

    Raises:
        UserError: naming the type, the value and the range, or the number of values where there is neither one nor one an image.
    """
    if not isinstance(concentration, RealNumber):
        if concentration is None or not isinstance(concentration, Tensor):
            raise UserError(f"concentration is {concentration!r}: give a number, or a tensor of one an image")
        check_tensor("concentration", concentration)
    if isinstance(concentration, Tensor) and (
        concentration.dim() > 1 or concentration.numel() not in (1, images)
    ):
        raise UserError(
            f"concentration has the shape {list(concentration.shape)}: give one number, or one for each of the {images} images"
        )
    low, high = (1 / bandwidth**2 for bandwidth in reversed(BANDWIDTH_RANGE))
    values = (
        concentration.detach().flatten().tolist() if isinstance(concentration, Tensor) else [concentration]
    )
    for value in values:
        # a learned bandwidth is clamped in fp32, hence the slack
        if not low * (1 - 1e-4) <= value <= high * (1 + 1e-4):
            raise UserError(
                f"concentration {value} is outside [{low:g}, {high:g}]: it is 1 / bandwidth^2 with a bandwidth in {list(BANDWIDTH_RANGE)}"
            )


def check_loops(iterations: int, step: float) -> None:
    """Refuse a number of loops or a step size that has no meaning.

    Raises:
        UserError: naming it.
    """
    check_count("iterations", iterations, 0, "it is how many loops are run; 0 returns the points alone")
    if not 0 < step <= 1:
        raise UserError(f"step {step} is outside (0, 1]: 1 is the full mean-shift step")


def local_places(
    positions: Real[Tensor, "*batch pixel 2"] | None,
    spatial_bandwidth: float | None,
    present: Bool[Tensor, "*batch pixel"],
) -> Float[Tensor, "*batch pixel 2"] | None:
    """Positions relative to the first present pixel of their image, which keeps whole and half pixels exact; 0 where no pixel is present.

    Raises:
        UserError: one of the two is missing, there is not one position (row, column) a pixel, one of a present pixel is not finite, or the
            spatial bandwidth h is out of its range.
    """
    if (positions is None) != (spatial_bandwidth is None):
        raise UserError("positions and spatial_bandwidth go together: give both or neither")
    if positions is None or spatial_bandwidth is None:
        return None
    check_tensor("positions", positions)
    if positions.shape != (*present.shape, 2):
        raise UserError(
            f"positions have the shape {list(positions.shape)}: the points want {[*present.shape, 2]}, a row and a column each"
        )
    low, high = SPATIAL_RANGE
    if not low <= spatial_bandwidth <= high:
        raise UserError(
            f"spatial_bandwidth {spatial_bandwidth} is outside [{low:g}, {high:g}]: it is a distance in the positions' unit"
        )
    positions = checked_positions(positions, present)
    if present.numel() == 0:
        return positions
    first = present.int().argmax(-1)[..., None, None].expand(*present.shape[:-1], 1, 2)
    return torch.where(
        present[..., None], positions - positions.gather(-2, first), torch.zeros_like(positions)
    )


def check_mass(mass: Tensor, least: float) -> None:
    """Refuse masses that are neither in `MASS_RANGE` nor, if `least` is 0, zero.

    Raises:
        UserError: naming the range and the remedy.
    """
    low, high = MASS_RANGE
    if bool((~((mass >= low) & (mass <= high) | (mass == least))).any()):
        allowed = "" if least else "0 or "
        raise UserError(
            f"mass holds a negative, NaN or extreme value: it should be {allowed}in [{low:g}, {high:g}], as it says how often a point is counted"
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
    """X_0 .. X_T of X <- normalise((1 - eta) X + eta X K diag(1/d)), K_ij = exp(kappa x_i . x_j) (paper, eq. 5 and 6).

    Exact, differentiable in `points` and `concentration`, O(N D) memory a loop. Half precision is computed in fp32.

    Args:
        points: of unit length; a masked point, and its position, may be anything. Half precision is normalised once more.
        concentration: kappa in [0.25, 2500]; a number, a 0-dim tensor, or one value an image.
        iterations: T >= 0.
        step: eta in (0, 1].
        mass: how much a point counts for the others, in [1e-12, 1e12] (1 each where not given), or 0, which is as masked; receives no gradient.
        mask: False marks absent pixels: they count for nobody and stay where they are.
        positions: fixed places that restrict who averages with whom by exp(-|p_i - p_j|^2 / (2 h^2)).
        spatial_bandwidth: h in [1e-6, 1e6], in the unit of `positions`.

    Returns:
        T + 1 tensors; the first is `points`, in fp32 or fp64.

    Raises:
        UserError: a point in use is not of unit length, or kappa, step, T, mass or h is out of its range. In the backward: a second
            derivative (`create_graph=True`) is asked for.
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
            f"mask is not boolean but {mask.dtype}: compare it, so that True marks the pixels that are there"
        )
    with torch.autocast(points.device.type, enabled=False):
        mass = torch.ones_like(points[..., 0]) if mass is None else mass.detach()
        check_mass(mass, least=0)
        present = mass > 0 if mask is None else mask & (mass > 0)
        check_unit_length(points, present)
        points = on_the_sphere(points)
        mass = mass.to(points.dtype) * present
        kappa = torch.as_tensor(concentration, dtype=points.dtype, device=points.device).expand(len(points))
        places = local_places(positions, spatial_bandwidth, present)
        places = None if places is None else places.to(points.dtype)
        everywhere = bool(present.all())
        # what is absent may be anything, and must reach no product that has a gradient
        here = points if everywhere else torch.where(present[..., None], points, first_axis_like(points))
        iterates = [points]
        for _ in range(iterations if points.numel() else 0):
            mean = kernel_mean(
                here, kappa, mass, places, 1.0 if spatial_bandwidth is None else spatial_bandwidth
            )
            here = mean_shift_update(here, mean, step)
            iterates.append(here if everywhere else torch.where(present[..., None], here, points))
    return iterates if points.numel() else [points] * (iterations + 1)


def mean_shift_update(
    points: Float[Tensor, "*shape dim"], mean: Float[Tensor, "*shape dim"], step: float
) -> Float[Tensor, "*shape dim"]:
    """normalise((1 - eta) X + eta O): what a loop makes of the points and the means that they see."""
    return normalise(mean if step == 1 else (1 - step) * points + step * mean)


def on_the_sphere(points: Float[Tensor, "batch pixel dim"]) -> Float[Tensor, "batch pixel dim"]:
    """In fp32 or fp64; what half precision has rounded off the sphere is put back."""
    return (
        normalise(in_single(points)) if points.dtype in (torch.float16, torch.bfloat16) else in_single(points)
    )


class LeadBack(torch.autograd.Function):
    """clamp(value, low, high), whose gradient beyond the range is that of the value itself where descent leads back into it, and 0 where it
    leads farther out. With torch's clamp a value that has once overshot stays out for ever."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Float[Tensor, ""], low: float, high: float) -> Float[Tensor, ""]:
        ctx.save_for_backward(value)  # type: ignore[attr-defined]
        ctx.range = (low, high)  # type: ignore[attr-defined]
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Float[Tensor, ""]) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (value,) = ctx.saved_tensors  # type: ignore[attr-defined]
        low, high = ctx.range  # type: ignore[attr-defined]
        farther = (value < low) & (gradient > 0) | (value > high) & (gradient < 0)
        return gradient.masked_fill(farther, 0), None, None


class MeanShift(nn.Module):
    """The recurrent grouping with its one parameter, the bandwidth b = 1 / sqrt(kappa), fixed or learned.

    Args:
        iterations: T, the loops that training unrolls.
        bandwidth: b in [0.02, 2]; None takes the paper's (1 - margin) / 3.
        margin: alpha of the loss, in [0, 1).
        learn_bandwidth: keep log b as a parameter and learn it, clamped to [0.02, 2]; a step beyond leaves it a gradient that leads back.
        step: eta in (0, 1].

    Raises:
        UserError: margin or bandwidth out of range.
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
        """kappa; a tensor with a gradient where the bandwidth is learned."""
        if not self.learn_bandwidth:
            return self.fixed_concentration
        low, high = (math.log(bandwidth) for bandwidth in BANDWIDTH_RANGE)
        return torch.exp(-2 * LeadBack.apply(self.log_bandwidth, low, high))

    def forward(
        self,
        points: Float[Tensor, "batch pixel dim"],
        mass: Float[Tensor, "batch pixel"] | None = None,
        mask: Bool[Tensor, "batch pixel"] | None = None,
    ) -> Iterates:
        """All T + 1 iterates; see `mean_shift`."""
        return mean_shift(points, self.concentration, self.iterations, step=self.step, mass=mass, mask=mask)
