"""Non-blurring mean shift on the sphere: points climb the density of where they started, which stays as it is."""

import torch
from jaxtyping import Float
from torch import Tensor

from rpe.grouping.kernel import mean_over_keys
from rpe.grouping.mean_shift import check_concentration, check_loops, mean_shift_update, on_the_sphere
from rpe.sphere import check_points, check_unit_length
from rpe.structures import Iterates


@torch.no_grad()
def nonblurring_mean_shift(
    points: Float[Tensor, "batch pixel dim"], concentration: float, iterations: int, *, step: float = 1.0
) -> Iterates:
    """X_0 .. X_T of x <- normalise((1 - eta) x + eta sum_i exp(kappa x_i . x) x_i / sum_i exp(kappa x_i . x)) with the keys x_i fixed at X_0.

    Its fixed points are the modes of the density of X_0 (method, section 4), where those of `mean_shift`, whose density moves along, are not. Without
    gradient, in O(N D) memory.

    Raises:
        UserError: a point is not of unit length, or kappa, T or the step is out of its range.
    """
    check_points(points, batch=None, pixel=None, dim=None)
    check_loops(iterations, step)
    check_concentration(concentration, len(points))
    check_unit_length(points)
    keys = on_the_sphere(points)
    mass = torch.ones_like(keys[0, :, 0]) if len(keys) else keys.new_ones(keys.shape[1])
    iterates = [keys]
    for _ in range(iterations):
        means = [
            mean_over_keys(here, key, mass, float(concentration))
            for here, key in zip(iterates[-1], keys, strict=True)
        ]
        iterates.append(mean_shift_update(iterates[-1], torch.stack(means), step) if means else keys)
    return iterates
