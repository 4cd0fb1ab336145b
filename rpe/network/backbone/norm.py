"""Group norm whose statistics are those of a training crop, in images of any size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.sphere import in_single


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He, ECCV 2018), at inference over windows of the map.

    Statistics of a whole image differ from those of the crops that a network was trained on: in an image of
    few and one of many objects the same object has other features. With a window, the features of a position
    depend on its surroundings alone. Half precision is computed in fp32, as by torch.

    Args:
        groups, channels: see torch.
        window: side in cells of the square that statistics are taken over: the one around a position, moved
            to lie inside the map. None takes the whole map, as training does.
    """

    def __init__(self, groups: int, channels: int, window: int | None) -> None:
        super().__init__(groups, channels)
        self.window = window

    def forward(self, input: Float[Tensor, "batch channel _ _"]) -> Float[Tensor, "batch channel _ _"]:
        if self.training or self.window is None:
            return super().forward(input)
        batch, channels, rows, columns = input.shape
        grouped = in_single(input).reshape(batch, self.num_groups, channels // self.num_groups, rows, columns)
        mean = window_mean(grouped.mean(2), self.window)
        # about the map's own mean, as the difference of two large squares would lose the digits
        centre = grouped.mean((2, 3, 4), keepdim=True)
        square = window_mean((grouped - centre).square().mean(2), self.window)
        variance = square - (mean - centre[:, :, 0]).square()
        scaled = (grouped - mean[:, :, None]) * (variance.clamp(min=0) + self.eps).rsqrt()[:, :, None]
        scaled = scaled.reshape(input.shape) * self.weight[:, None, None] + self.bias[:, None, None]
        return scaled.to(input.dtype)


def window_mean(
    values: Float[Tensor, "*batch row column"], window: int
) -> Float[Tensor, "*batch row column"]:
    """Return the mean over the window around each position, moved to lie inside; at most the whole axis."""
    for axis in (-2, -1):
        length = values.shape[axis]
        side = min(window, length)
        start = (torch.arange(length, device=values.device) - side // 2).clamp(0, length - side)
        sums = values.double().cumsum(axis)
        sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums], axis)
        values = ((sums.index_select(axis, start + side) - sums.index_select(axis, start)) / side).to(values)
    return values
