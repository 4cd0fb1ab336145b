"""Run non-blurring mean shift on the sphere: points climb the fixed density of the initial points."""

import torch
from jaxtyping import Float
from torch import Tensor

from rpe.grouping.arguments import check_concentration, check_loops
from rpe.grouping.kernel import mean_over_keys
from rpe.grouping.mean_shift import mean_shift_update, to_unit_length
from rpe.sphere import check_points, check_unit_length
from rpe.structures import Iterates


@torch.no_grad()
def nonblurring_mean_shift(
    points: Float[Tensor, "batch pixel dim"], concentration: float, iterations: int, *, step: float = 1.0
) -> Iterates:
    """Return X_0 .. X_T of mean shift with the keys fixed at X_0.

    x <- normalise((1 - eta) x + eta sum_i exp(kappa x_i . x) x_i / sum_i exp(kappa x_i . x)). Its fixed
    points are the modes of the density of X_0 (method, section 4); those of `mean_shift`, whose density moves
    with the points, are not. Without gradient, in O(N D) memory.

    Raises:
        UserError: a point is not of unit length, or kappa, T or the step is out of range.
    """
    check_points(points, batch=None, pixel=None, dim=None)
    check_loops(iterations, step)
    check_concentration(concentration, len(points))
    check_unit_length(points)
    keys = to_unit_length(points)
    mass = torch.ones_like(keys[0, :, 0]) if len(keys) else keys.new_ones(keys.shape[1])
    iterates = [keys]
    for _ in range(iterations):
        means = [
            mean_over_keys(here, key, mass, float(concentration))
            for here, key in zip(iterates[-1], keys, strict=True)
        ]
        iterates.append(mean_shift_update(iterates[-1], torch.stack(means), step) if means else keys)
    return iterates
