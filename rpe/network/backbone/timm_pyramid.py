"""Combine any timm model with a decoder to an output stride of 4 or 2."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.network.backbone.decoder import (
    ConvolutionBlock,
    Decoder,
    compute_windows,
    pad_images,
    resize_map,
)
from rpe.network.backbone.encoder import Encoder
from rpe.structures import FeatureMap, UserError, check_count

MAX_MULTIPLE = 1024
"""Largest multiple of image sides in pixels; it is the largest side of one tile among timm's models.

More results from sizes and strides that do not fit together, and would fill the memory.
"""


class TimmPyramid(nn.Module):
    """Any timm model with features, and a decoder to an output stride of 4 or 2.

    The strides of the pyramid are powers of two. Each stage of the encoder is resized to the nearest one
    (patches of 14 pixels to 16) and joins the others there, as the layers of a vision transformer all have
    one stride. Where the encoder has no stage as fine as the output, a shallow stem on the image itself
    supplies the detail: a boundary upsampled from stride 16 is pixels off.

    Args:
        model: name in timm, such as resnet50.
        weights: None trains from scratch; a file holds a state dict of that model; "timm" downloads timm's
            own; "imagenet" uses an installed package, otherwise timm's.
        stride: of the output, 2 or 4.
        width: channels of all decoded maps.
        norm_window: see `UNet`; of the group norms of stem and decoder.
        frozen_norms: keep the statistics, scales and shifts of pretrained batch norms, as batches of a few
            images ruin them.
        frozen_stages: number of pretrained stages, counted from the image, that are not trained. Without
            weights all stages are trained.

    Raises:
        UserError: an option is out of range, timm cannot build the model or its features, or the weights are
            another model's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        weights: str | None,
        stride: int,
        width: int,
        norm_window: int | None,
        frozen_norms: bool,
        frozen_stages: int,
    ) -> None:
        super().__init__()
        check_count("backbone.width", width, 1, "Use e.g. 32")
        check_count("backbone.stride", stride, 1, "Use e.g. 4")
        if stride not in (2, 4):
            raise UserError(f"backbone.stride must be 2 or 4, got {stride}. For 1 use backbone=unet.")
        self.encoder = Encoder(model, weights, frozen_norms, frozen_stages)
        stages = [2 ** round(math.log2(reduction)) for reduction in self.encoder.strides]
        finest = min((there for there in stages if there >= stride), default=None)
        if finest is None:
            raise UserError(
                f"backbone.model must have a stage of stride >= {stride}, got {model} with strides "
                f"{self.encoder.strides}. Choose another."
            )
        self.stem = Stem(stride, finest, width, norm_window)
        self.sources = [*self.stem.strides, *stages]
        channels = [*self.stem.channels, *self.encoder.channels]
        self.strides = sorted({there for there in self.sources if there >= stride})
        self.lateral = nn.ModuleList(
            nn.Conv2d(
                sum(count for count, there in zip(channels, self.sources, strict=True) if there == here),
                width,
                1,
            )
            for here in self.strides
        )
        self.channels = [width] * len(self.strides)
        self.decoder = Decoder(self.channels, compute_windows(norm_window, self.strides))
        self.multiple = math.lcm(self.encoder.multiple, self.strides[-1])
        if self.multiple > MAX_MULTIPLE:
            raise UserError(
                f"backbone.model must accept images padded to a multiple of <= {MAX_MULTIPLE} pixels, "
                f"got {model}, which needs {self.multiple}. Choose another."
            )
        # a training step on the CPU takes 0.8 of the time of the other layout
        self.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(self.encoder.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(self.encoder.std)[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]:
        """Return maps of stride `stride` and coarser, `width` channels each."""
        here = pad_images((images - self.mean) / self.std, self.multiple).contiguous(
            memory_format=torch.channels_last
        )
        values = [*self.stem(here), *self.encoder(here)]
        maps = []
        for stride, lateral in zip(self.strides, self.lateral, strict=True):
            grid = (here.shape[-2] // stride, here.shape[-1] // stride)
            maps.append(
                lateral(
                    torch.cat(
                        [
                            resize_map(one, grid)
                            for one, there in zip(values, self.sources, strict=True)
                            if there == stride
                        ],
                        1,
                    )
                )
            )
        return [
            FeatureMap(decoded, stride)
            for decoded, stride in zip(self.decoder(maps), self.strides, strict=True)
        ]


class Stem(nn.Module):
    """Strided convolutions on the image, for the strides between the output's and the encoder's finest.

    Empty where the encoder is fine enough. It has half of the decoder's width just above the encoder, and
    half of that at each finer stride: at full width it would cost more than a small encoder.
    """

    def __init__(self, stride: int, encoder_stride: int, width: int, norm_window: int | None) -> None:
        super().__init__()
        strides = (
            [2**power for power in range(1, encoder_stride.bit_length() - 1)]
            if stride < encoder_stride
            else []
        )
        channels = [max(1, width * here // encoder_stride) for here in strides]
        inputs = [3, *channels[:-1]]
        self.blocks = nn.ModuleList(
            ConvolutionBlock(coming, going, 2, window)
            for coming, going, window in zip(
                inputs, channels, compute_windows(norm_window, strides), strict=False
            )
        )
        self.skipped = sum(here < stride for here in strides)
        self.strides, self.channels = strides[self.skipped :], channels[self.skipped :]

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return one map for each of `strides`, with `channels`."""
        maps = [images]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[1 + self.skipped :]
