"""Unroll T loops of blurring mean shift on the sphere, the paper's recurrent grouping network (section 4)."""

import math

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rpe.grouping.arguments import (
    check_all_values,
    check_concentration_type,
    check_loops,
    check_positions,
    local_positions,
)
from rpe.grouping.kernel import kernel_mean
from rpe.sphere import (
    BANDWIDTH_RANGE,
    bandwidth_of_margin,
    check_bandwidth,
    check_points,
    check_tensor,
    concentration_of_bandwidth,
    first_axis_like,
    in_single,
    normalise,
)
from rpe.structures import Iterates, UserError, check_shape


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
    check_concentration_type(concentration, len(points))
    for name, values in (("mass", mass), ("mask", mask)):
        if values is not None:
            check_tensor(name, values)
            check_shape(name, values, batch=points.shape[0], pixel=points.shape[1])
    if mask is not None and mask.dtype != torch.bool:
        raise UserError(
            f"mask must be boolean, got {mask.dtype}. Compare it, so that True marks present pixels."
        )
    present = torch.ones_like(points[..., 0], dtype=torch.bool) if mask is None else mask
    present = present if mass is None else present & (mass.detach() > 0)
    check_positions(positions, spatial_bandwidth, present)
    check_all_values(points, concentration, None if mass is None else mass.detach(), present, positions)
    everywhere = mass is None and mask is None
    return unroll_loops(
        points,
        concentration,
        iterations,
        step,
        None if mass is None else mass.detach(),
        None if everywhere else present,
        None if positions is None else local_positions(positions, present),
        1.0 if spatial_bandwidth is None else spatial_bandwidth,
    )


def unroll_loops(
    points: Float[Tensor, "batch pixel dim"],
    concentration: float | Tensor,
    iterations: int,
    step: float,
    mass: Float[Tensor, "batch pixel"] | None = None,
    present: Bool[Tensor, "batch pixel"] | None = None,
    positions: Float[Tensor, "batch pixel 2"] | None = None,
    spatial_bandwidth: float = 1.0,
) -> Iterates:
    """Return the iterates of `mean_shift` for arguments that are right; it reads no value of a tensor.

    Args:
        points, concentration, iterations, step, mass, spatial_bandwidth: see `mean_shift`.
        present: False marks absent pixels; None means that all are present.
        positions: of `local_positions`.
    """
    with torch.autocast(points.device.type, enabled=False):
        points = to_unit_length(points)
        mass = torch.ones_like(points[..., 0]) if mass is None else mass.to(points.dtype)
        mass = mass if present is None else mass * present
        kappa = (
            concentration.to(points).expand(len(points))
            if isinstance(concentration, Tensor)
            else points.new_full((len(points),), concentration)
        )
        positions = None if positions is None else positions.to(points.dtype)
        # absent points may have any value, which must not enter a product with a gradient
        here = points if present is None else torch.where(present[..., None], points, first_axis_like(points))
        iterates = [points]
        for _ in range(iterations if points.numel() else 0):
            here = mean_shift_update(here, kernel_mean(here, kappa, mass, positions, spatial_bandwidth), step)
            iterates.append(here if present is None else torch.where(present[..., None], here, points))
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

    Raises:
        UserError: an argument is out of range.
    """

    log_bandwidth: Tensor

    def __init__(
        self, iterations: int, bandwidth: float | None, margin: float, learn_bandwidth: bool
    ) -> None:
        super().__init__()
        check_loops(iterations)
        self.iterations = iterations
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
        """Return all T + 1 iterates; see `mean_shift`.

        Points that a network normalised need no check. On the CPU it costs nothing and names a network whose
        output is NaN; on a GPU it would stop each step, and in a compiled step it would cut the graph.
        """
        if mass is None and mask is None and (points.is_cuda or torch.compiler.is_compiling()):
            return unroll_loops(points, self.concentration, self.iterations, step=1.0)
        return mean_shift(points, self.concentration, self.iterations, mass=mass, mask=mask)
