"""Define the data passed between the stages: batches, feature maps, modes, proposals.

Labels in the program are int64 `[batch, height, width]`: -1 void (ignored by loss and metrics), 0 background,
1..n objects, consecutive per image. The value 255 means void in files only.
"""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from rpe.errors import UserError as UserError

VOID = -1
BACKGROUND = 0

Iterates = list[Float[Tensor, "batch pixel dim"]]
"""X_0 .. X_T: the points before the first loop and after each one."""

RunLength = dict[str, Any]
"""One mask as COCO writes it: {"size": [height, width], "counts": text}."""

Truth = dict[str, Any]
"""The annotations of a split in COCO format."""

ResultRow = dict[str, Any]
"""A row of a COCO results file: `image_id`, `segmentation`, `score`, and others."""


def check_shape(name: str, values: Tensor, **axes: int | None) -> None:
    """Check that a tensor has the named axes, each of the given length (None means any).

    Raises:
        UserError: names the tensor, the required shape and the shape found.
    """
    if values.dim() != len(axes) or any(
        length not in (None, found) for length, found in zip(axes.values(), values.shape, strict=True)
    ):
        wanted = ", ".join(axis if length is None else f"{axis} {length}" for axis, length in axes.items())
        raise UserError(f"{name} must have the shape [{wanted}], got {list(values.shape)}.")


def check_count(name: str, value: Any, least: int, remedy: str) -> None:
    """Check that a value is an integer of at least `least`.

    Raises:
        UserError: names the key, the value and the remedy.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        sentence = remedy[:1].upper() + remedy[1:].rstrip(".")
        raise UserError(f"{name} must be an integer >= {least}, got {value}. {sentence}.")


def reflect_indices(
    start: int, count: int, length: int, device: torch.device | None = None
) -> Int64[Tensor, " count"]:
    """Return the indices start .. start + count - 1, reflected at both ends of an axis of `length` pixels."""
    index = torch.arange(start, start + count, device=device)
    # a tensor, as ONNX has no remainder by a length that is known at run time alone
    index = index % index.new_full((), 2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


@dataclass
class Batch:
    """Images for the network, and their origin.

    `images` lie in [0, 1]. `sizes` are the (height, width) of the original images, `image_ids` their ids in
    the truth.
    """

    images: Float[Tensor, "batch 3 height width"]
    labels: Int64[Tensor, "batch height width"]
    image_ids: list[int]
    sizes: list[tuple[int, int]]

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, from which a copy to a GPU does not stop the program.

        DataLoader calls it, and would leave a dataclass without this method as it is.
        """

        def pinned(value: Any) -> Any:
            if isinstance(value, list):
                return [pinned(one) for one in value]
            return value.pin_memory() if isinstance(value, Tensor) else value

        return replace(self, **{name: pinned(value) for name, value in vars(self).items()})


@dataclass
class InstanceBatch(Batch):
    """Images with objects.

    `categories` holds for each image the class of every label: 0 for the background, then 1..classes for
    object 1, 2, ..
    """

    categories: list[Int64[Tensor, " _"]]

    def classes(self) -> Int64[Tensor, "batch height width"]:
        """Return the class of each pixel: 0 background, 1..classes, void where unlabelled."""
        maps = [
            categories[labels.clamp(min=BACKGROUND)]
            for labels, categories in zip(self.labels, self.categories, strict=True)
        ]
        return torch.where(self.labels == VOID, VOID, torch.stack(maps))


@dataclass
class BoundaryBatch(Batch):
    """Images with `labels` 1 on boundaries, 0 elsewhere, void where the annotators disagree.

    `image_ids` number the images of the split. `segments` are the segments of each annotator, 0..n-1; void
    outside the image, and in the planes after an image's last annotator.
    """

    segments: Int64[Tensor, "batch annotator height width"]
    names: list[str]


@dataclass
class FeatureMap:
    """Values on a regular grid over the image.

    Cell (r, c) is centred on position (stride (r + 1/2), stride (c + 1/2)). Positions are (row, column) in
    pixels of the network's image; a pixel's centre lies at its index + 1/2. The grid may extend beyond the
    image, where the backbone padded it.
    """

    values: Float[Tensor, "batch channel rows columns"]
    stride: int

    def at(self, positions: Float[Tensor, "batch pixel 2"]) -> Float[Tensor, "batch pixel channel"]:
        """Return the values at `positions`, bilinear between cell centres, constant outside."""
        rows, columns = self.values.shape[-2:]
        row, column = (2 * positions).unbind(-1)
        # grid_sample wants (x, y) in [-1, 1] from border to border; a tensor of the extent would stop a GPU
        grid = torch.stack([column / (columns * self.stride) - 1, row / (rows * self.stride) - 1], -1)[
            :, None
        ]
        if torch.float64 in (self.values.dtype, grid.dtype):
            grid = grid.to(self.values.dtype)
        sampled = functional.grid_sample(
            self.values, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return sampled[:, :, 0].transpose(1, 2)


@dataclass
class NetworkOutput:
    """The network's output for each cell of its grid.

    `points` lie on the sphere. `objectness` is the logit of being part of an object; its grid may be finer.
    `features` are the backbone's finest, used to rank groups. `classes` are the class logits, background
    first; None where the head has no classes.
    """

    points: FeatureMap
    objectness: FeatureMap
    features: FeatureMap
    classes: FeatureMap | None = None


@dataclass
class Boundaries:
    """A detector's output: points on the sphere and boundary logits of each stage, and the fused logits.

    Stages are sorted finest first. The grid of the fused logits may be finer.
    """

    points: list[FeatureMap]
    stages: list[FeatureMap]
    fused: FeatureMap


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Return values of the CPU on a device, without waiting for a GPU to finish its earlier work."""
    return values.to(device, non_blocking=device.type != "mps")


def pixel_centres(size: tuple[int, int], device: torch.device) -> Float[Tensor, "pixel 2"]:
    """Return (row, column) of all pixel centres of an image of `size` (height, width), row by row."""
    rows, columns = (torch.arange(length, device=device, dtype=torch.float32) + 0.5 for length in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


class Geometry(NamedTuple):
    """Sizes (height, width) in pixels of one image: in the network, and of the original, where masks live."""

    network_size: tuple[int, int]
    size: tuple[int, int]

    def ratio(self, device: torch.device) -> Float[Tensor, "2"]:
        """Return the network's pixels per original pixel, along (height, width)."""
        rows, columns = (seen / length for seen, length in zip(self.network_size, self.size, strict=True))
        return torch.tensor([rows, columns], device=device)

    def centres(self, device: torch.device) -> Float[Tensor, "pixel 2"]:
        """Return the original pixels' centres (row, column) in pixels of the network's image, row by row."""
        return pixel_centres(self.size, device) * self.ratio(device)


class Modes(NamedTuple):
    """Modes found by mean shift, sorted by descending mass of their leaders, or of components with positions.

    `mass` is the mass of all points of a mode, `labels` index the modes. `moves` is the largest cosine
    distance (half the squared chord) that a point moved in each loop.
    """

    points: Float[Tensor, "mode dim"]
    mass: Float[Tensor, " mode"]
    labels: Int64[Tensor, " pixel"]
    moves: Float[Tensor, " loop"]


@dataclass
class Proposals:
    """Ranked masks of one image at its original size, which may overlap, best score first.

    `classes` count from 1, as 0 is the background; None where they are unknown.
    """

    masks: list[RunLength]
    scores: Float[np.ndarray, " proposal"]
    size: tuple[int, int]
    classes: Int64[np.ndarray, " proposal"] | None = None

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """Return rows of a COCO results file.

        `category_ids` are the ids of class 1, 2, ..; masks without classes get the only one, and of several
        none, as a class that nothing has predicted would be scored.
        """
        numbers = [1] * len(self.masks) if self.classes is None else self.classes.tolist()
        known = self.classes is not None or len(category_ids) == 1
        return [
            {
                "image_id": image_id,
                **({"category_id": category_ids[number - 1]} if known else {}),
                "segmentation": mask,
                "score": float(score),
            }
            for mask, score, number in zip(self.masks, self.scores, numbers, strict=True)
        ]
