"""What every backbone is, and what both of ours are made of: padding, a block of convolutions, the way up from coarse to fine."""

from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.structures import FeatureMap, UserError


@runtime_checkable
class Backbone(Protocol):
    """What a model is handed: `channels[i]` of the i-th map of the pyramid, finest first; images are padded to sides that are a `multiple`."""

    channels: list[int]
    multiple: int

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]: ...


def check_whole(name: str, value: object, least: int) -> None:
    """Raise `UserError` where the option is no whole number, or below `least`; YAML's `true` is none either."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"backbone.{name} {value!r} is no whole number of at least {least}")


def padded(images: Float[Tensor, "batch 3 height width"], multiple: int) -> Float[Tensor, "batch 3 _ _"]:
    """The images with their last row and column repeated up to a multiple; maps then reach beyond the image, and `FeatureMap.at` knows where."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def resized(
    values: Float[Tensor, "batch channel _ _"], size: tuple[int, ...]
) -> Float[Tensor, "batch channel _ _"]:
    """A map on another grid over the same extent, bilinear; the map itself where it has that size already."""
    return (
        values
        if values.shape[-2:] == size
        else functional.interpolate(values, size=list(size), mode="bilinear", align_corners=False)
    )


class ConvolutionBlock(nn.Sequential):
    """Twice 3 x 3 convolution, group norm and ReLU. Group norm, as batches are small and ranks must agree with one process."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        groups = next(
            count for count in range(max(1, outputs // 8), 0, -1) if outputs % count == 0
        )  # 8 channels each where that goes
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.ReLU(inplace=True),
        )


class Decoder(nn.Module):
    """From the coarsest map to the finest: double, join the encoder's map, convolve."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.joins = nn.ModuleList(
            ConvolutionBlock(fine + coarse, fine) for fine, coarse in pairwise(channels)
        )

    def forward(self, maps: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Maps finest first in, the same sizes and channels out."""
        decoded = [maps[-1]]
        for join, fine in zip(reversed(self.joins), reversed(maps[:-1]), strict=True):
            decoded.insert(0, join(torch.cat([fine, resized(decoded[0], fine.shape[-2:])], 1)))
        return decoded
