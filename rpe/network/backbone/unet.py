"""A small U-Net for the CPU."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.network.backbone.decoder import (
    ConvolutionBlock,
    Decoder,
    compute_windows,
    pad_images,
)
from rpe.structures import FeatureMap, UserError, check_count


class UNet(nn.Module):
    """A U-Net from scratch (Ronneberger et al., 2015), small enough for a CPU.

    Args:
        width: channels of the finest level; each level below has twice as many, at most 8 times.
        levels: number of halvings of the resolution below the output.
        stride: of the output, 1 or 2. 2 starts with a strided convolution; a training step of the digits then
            takes 0.6 of the time.
        norm_window: side in pixels of the window of group norm's statistics at inference: that of the
            training crops. None takes the whole image.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(self, width: int, levels: int, stride: int, norm_window: int | None) -> None:
        super().__init__()
        check_count("backbone.width", width, 1, "Use e.g. 32")
        check_count("backbone.levels", levels, 0, "Use e.g. 4")
        check_count("backbone.stride", stride, 1, "Use e.g. 2")
        if stride > 2:
            raise UserError(f"backbone.stride must be 1 or 2, got {stride}. For 4 use backbone=timm.")
        self.stride, self.levels = stride, levels
        self.multiple = stride * 2**levels
        windows = compute_windows(norm_window, [stride * 2**level for level in range(levels + 1)])
        self.channels = [width * min(2**level, 8) for level in range(levels + 1)]
        inputs = [3, *self.channels[:-1]]
        self.encoder = nn.ModuleList(
            ConvolutionBlock(coming, going, stride if level == 0 else 1, window)
            for level, (coming, going, window) in enumerate(zip(inputs, self.channels, windows, strict=True))
        )
        self.decoder = Decoder(self.channels, windows)
        # a training step on 2 cores takes 0.7 of the time of the other layout
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]:
        """Return maps of stride `stride`, 2 `stride`, .. with `channels`."""
        here = pad_images(images - 0.5, self.multiple).contiguous(memory_format=torch.channels_last)
        maps = []
        for level, block in enumerate(self.encoder):
            here = block(here if level == 0 else functional.max_pool2d(here, 2))
            maps.append(here)
        return [FeatureMap(values, self.stride * 2**level) for level, values in enumerate(self.decoder(maps))]
