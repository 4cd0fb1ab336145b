"""Define the backbone protocol and what both backbones use: padding, convolution block, decoder."""

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.network.backbone.norm import GroupNorm
from rpe.structures import FeatureMap, check_count, reflect_indices


@runtime_checkable
class Backbone(Protocol):
    """The interface of a backbone.

    `channels[i]` belongs to the i-th map of the pyramid, finest first. Images are padded to sides that are a
    `multiple`.
    """

    channels: list[int]
    multiple: int

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]: ...


def compute_windows(norm_window: int | None, strides: Sequence[int]) -> list[int | None]:
    """Return `norm_window`, which is in pixels, in cells of the maps of these strides, for `GroupNorm`.

    Raises:
        UserError: it is neither None nor an integer >= 1.
    """
    if norm_window is None:
        return [None] * len(strides)
    check_count("backbone.norm_window", norm_window, 1, "null takes the whole image")
    return [max(1, round(norm_window / stride)) for stride in strides]


def pad_images(images: Float[Tensor, "batch 3 height width"], multiple: int) -> Float[Tensor, "batch 3 _ _"]:
    """Continue the image below and to the right by its reflection, up to a multiple.

    The maps then extend beyond the image, which `FeatureMap.at` takes into account. Training crops continue
    by reflection too. A repeated last row or column is a texture that no photograph has: it drew a false
    boundary along it (docs/results.md).
    """
    for axis in (2, 3):
        length = images.shape[axis]
        indices = reflect_indices(0, length + -length % multiple, length, images.device)
        images = images.index_select(axis, indices)
    return images


def resize_map(
    values: Float[Tensor, "batch channel _ _"], size: tuple[int, ...]
) -> Float[Tensor, "batch channel _ _"]:
    """Resize a map to another grid over the same extent, bilinear; unchanged where the size is equal."""
    return (
        values
        if values.shape[-2:] == size
        else functional.interpolate(values, size=list(size), mode="bilinear", align_corners=False)
    )


class ConvolutionBlock(nn.Sequential):
    """Two times 3 x 3 convolution, group norm and ReLU.

    Group norm, as batches are small and several ranks must agree with one process. For `window` see
    `GroupNorm`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, window: int | None = None) -> None:
        # groups of 8 channels where that divides
        groups = next(count for count in range(max(1, outputs // 8), 0, -1) if outputs % count == 0)
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            GroupNorm(groups, outputs, window),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            GroupNorm(groups, outputs, window),
            nn.ReLU(inplace=True),
        )


class Decoder(nn.Module):
    """From the coarsest map to the finest: upsample, concatenate the encoder's map, convolve.

    `windows` are those of `GroupNorm` for each map, finest first.
    """

    def __init__(self, channels: list[int], windows: Sequence[int | None] = ()) -> None:
        super().__init__()
        self.joins = nn.ModuleList(
            ConvolutionBlock(fine + coarse, fine, window=window)
            for (fine, coarse), window in zip_longest(pairwise(channels), windows[:-1])
        )

    def forward(self, maps: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Decode maps, finest first, to maps of the same sizes and channels."""
        decoded = [maps[-1]]
        for join, fine in zip(reversed(self.joins), reversed(maps[:-1]), strict=True):
            decoded.insert(0, join(torch.cat([fine, resize_map(decoded[0], fine.shape[-2:])], 1)))
        return decoded
