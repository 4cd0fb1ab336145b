"""Run a fixed number of mean-shift loops as a plain graph of tensors, which `torch.export` can save.

It has no checks of values, no blocks and no custom gradient.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rpe.grouping.arguments import check_concentration, check_loops
from rpe.grouping.kernel import fused_kernel_mean
from rpe.sphere import first_axis_like, normalise


class FixedMeanShift(nn.Module):
    """The last iterate X_T of `mean_shift`, with means computed as softmax self-attention.

    One fused operator per loop, in O(N D) memory on any device.

    Args:
        concentration: kappa in [0.25, 2500].
        iterations: T >= 0.

    Raises:
        UserError: an argument is out of range.
    """

    concentration: Tensor

    def __init__(self, concentration: float, iterations: int) -> None:
        super().__init__()
        check_concentration(concentration, 1)
        check_loops(iterations)
        self.iterations = iterations
        self.register_buffer("concentration", torch.tensor([concentration]))

    def forward(
        self, points: Float[Tensor, "batch pixel dim"], mask: Bool[Tensor, "batch pixel"]
    ) -> Float[Tensor, "batch pixel dim"]:
        """Return X_T for points of unit length in fp32.

        Where the mask is False, points may have any value; they count for no other point and are returned
        unchanged.
        """
        mass = mask.to(points.dtype)
        here = torch.where(mask[..., None], points, first_axis_like(points))
        for _ in range(self.iterations):
            here = normalise(fused_kernel_mean(here, self.concentration.expand(points.shape[0]), mass, None))
        return torch.where(mask[..., None], here, points)
