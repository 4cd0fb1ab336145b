"""Image -> pyramid of feature maps, finest first: a small U-Net for the CPU, and any timm model with a decoder."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.structures import FeatureMap, InputError


@runtime_checkable
class Backbone(Protocol):
    """What a model is handed: `channels[i]` of the i-th map of the pyramid, finest first."""

    channels: list[int]

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]: ...


def padded(images: Float[Tensor, "batch 3 height width"], multiple: int) -> Float[Tensor, "batch 3 _ _"]:
    """The images with their last row and column repeated up to a multiple; maps then reach beyond the image, and `FeatureMap.at` knows where."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class ConvolutionBlock(nn.Sequential):
    """Twice 3 x 3 convolution, group norm and ReLU. Group norm, as batches are small and ranks must agree with one process."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        groups = next(count for count in range(max(1, outputs // 8), 0, -1) if outputs % count == 0)  # 8 channels each where that goes
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
        self.joins = nn.ModuleList(ConvolutionBlock(fine + coarse, fine) for fine, coarse in pairwise(channels))

    def forward(self, maps: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Maps finest first in, the same sizes and channels out."""
        decoded = [maps[-1]]
        for join, fine in zip(reversed(self.joins), reversed(maps[:-1]), strict=True):
            coarse = functional.interpolate(decoded[0], size=fine.shape[-2:], mode="bilinear", align_corners=False)
            decoded.insert(0, join(torch.cat([fine, coarse], 1)))
        return decoded


class UNet(nn.Module):
    """A U-Net from scratch (Ronneberger et al., 2015), small enough for a CPU.

    Args:
        width: channels of the finest level; each level below has twice as many, at most 8 times.
        levels: how often the resolution is halved below the output.
        stride: of the output, 1 or 2; 2 starts with a strided convolution; a training step of the digits then takes 0.6 of the time.
    """

    def __init__(self, width: int, levels: int, stride: int) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise InputError(f"backbone.stride {stride} is not 1 or 2: for 4 use backbone=timm")
        self.stride, self.levels = stride, levels
        self.channels = [width * min(2**level, 8) for level in range(levels + 1)]
        inputs = [3, *self.channels[:-1]]
        self.encoder = nn.ModuleList(
            ConvolutionBlock(coming, going, stride=stride if level == 0 else 1)
            for level, (coming, going) in enumerate(zip(inputs, self.channels, strict=True))
        )
        self.decoder = Decoder(self.channels)
        # a training step on 2 cores takes 0.7 of the time that the other layout takes
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]:
        """Maps of stride `stride`, 2 `stride`, .. with `channels`."""
        here = padded(images - 0.5, self.stride * 2**self.levels).contiguous(memory_format=torch.channels_last)
        maps = []
        for level, block in enumerate(self.encoder):
            here = block(here if level == 0 else functional.max_pool2d(here, 2))
            maps.append(here)
        return [FeatureMap(values, self.stride * 2**level) for level, values in enumerate(self.decoder(maps))]


class TimmPyramid(nn.Module):
    """Any timm model that gives features, with a decoder to an output stride of 4 or 2.

    Args:
        model: timm's name of it, such as resnet50.
        weights: None trains from scratch; a file holds a state dict of that model; "timm" downloads timm's own.
        stride: of the output; the model must have a stage of that stride.
        width: channels of all decoded maps.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: str, weights: str | None, stride: int, width: int) -> None:
        super().__init__()
        import timm  # seconds to import, and only this class needs it

        if not timm.is_model(model):
            close = timm.list_models(f"*{model[:6]}*")[:3]
            raise InputError(f"backbone.model {model!r} is not a timm model{': did you mean ' + ', '.join(close) if close else ''}")
        self.encoder = timm.create_model(model, features_only=True, pretrained=weights == "timm")
        info: Any = self.encoder.feature_info
        strides = info.reduction()
        if stride not in strides:
            raise InputError(f"backbone.stride {stride}: {model} has stages of stride {strides}")
        if weights not in (None, "timm"):
            load_encoder(self.encoder, Path(str(weights)))
        self.first = strides.index(stride)
        self.strides = strides[self.first :]
        self.channels = [width] * len(self.strides)
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in info.channels()[self.first :])
        self.decoder = Decoder(self.channels)
        configuration: Any = self.encoder.default_cfg
        self.register_buffer("mean", torch.tensor(configuration["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(configuration["std"])[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[FeatureMap]:
        """Maps of stride `stride` and coarser, `width` channels each."""
        here = padded((images - self.mean) / self.std, self.strides[-1])
        stages = self.encoder(here)[self.first :]
        maps = [lateral(stage) for lateral, stage in zip(self.lateral, stages, strict=True)]
        return [FeatureMap(values, stride) for values, stride in zip(self.decoder(maps), self.strides, strict=True)]


def load_encoder(encoder: nn.Module, file: Path) -> None:
    """Load a state dict saved from the classification model or from the encoder; heads are left out, a missing layer is an error.

    Raises:
        InputError: no such file, or weights of another model.
    """
    if not file.is_file():
        raise InputError(f"backbone.weights {file} does not exist: name a file, timm, or null to train from scratch")
    state = torch.load(file, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    wanted = encoder.state_dict()
    # timm's feature models rename layer1.0 to layer1_0 or keep it, by architecture: compare without the separators
    given = {name.replace("_", "."): value for name, value in state.items()}
    found = {name: given.get(name.replace("_", ".")) for name in wanted}
    wrong = [name for name, value in found.items() if value is None or value.shape != wanted[name].shape]
    if wrong:
        raise InputError(f"backbone.weights {file} are of another model: {wrong[0]} is missing or of another shape ({len(wrong)} such layers)")
    encoder.load_state_dict(found)
