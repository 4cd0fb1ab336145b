"""Draw random views of an annotated image. Boundaries stay one pixel wide."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transform

from rpe.data.thinning import segment_changes, thin
from rpe.structures import VOID


@dataclass
class Drawing:
    """One annotator's drawing: `segments` 0..n-1, and the `boundaries` between them, one pixel wide."""

    segments: Int64[np.ndarray, "height width"]
    boundaries: Bool[np.ndarray, "height width"]


@dataclass
class View:
    """A square view of a scaled image, rotated and perhaps flipped.

    `side` is in pixels, `angle` in radians, `centre` (row, column) in the scaled image.
    """

    side: int
    scale: float
    angle: float
    flip: bool
    centre: tuple[float, float]

    @staticmethod
    def draw(
        size: tuple[int, int],
        side: int,
        scale_range: tuple[float, float],
        rotation: float,
        flip: bool,
        random: np.random.Generator,
    ) -> "View":
        """Draw a view, inside the image where the image is large enough.

        The logarithm of the scale is uniform between `scale_range`, the angle within +-`rotation` degrees.
        """
        scale = math.exp(random.uniform(math.log(scale_range[0]), math.log(scale_range[1])))
        angle = math.radians(random.uniform(-rotation, rotation))
        mirror = flip and random.random() < 0.5
        # half the side of the upright square around the rotated one
        half = side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))
        scaled = [round(length * scale) for length in size]
        # integer corners, so that a view without scale and rotation copies pixels
        corners = [
            random.uniform(half, max(half, length - half)) - side / 2
            if length > 2 * half
            else (length - side) / 2
            for length in scaled
        ]
        return View(
            side, scale, angle, mirror, (math.floor(corners[0]) + side / 2, math.floor(corners[1]) + side / 2)
        )

    def positions(self) -> Float[np.ndarray, "2 side side"]:
        """Return each pixel's (row, column) in the scaled image. The centre of pixel i is i + 1/2."""
        steps = np.arange(self.side) + 0.5 - self.side / 2
        down, right = np.meshgrid(steps, -steps if self.flip else steps, indexing="ij")
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return np.stack(
            [self.centre[0] + cosine * down + sine * right, self.centre[1] - sine * down + cosine * right]
        )

    def image(self, image: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 side side"]:
        """Return the view of an image, bilinear. Beyond the image it shows the reflection."""
        height, width = (round(length * self.scale) for length in image.shape[1:])
        scaled = transform.resize(image, [height, width], antialias=True)
        rows, columns = self.positions()
        grid = torch.from_numpy(np.stack([2 * columns / width - 1, 2 * rows / height - 1], axis=-1)).float()
        return functional.grid_sample(
            scaled[None], grid[None], padding_mode="reflection", align_corners=False
        )[0]

    def drawing(self, one: Drawing) -> Drawing:
        """Return the view of a drawing: nearest segments, void outside, and their boundaries."""
        size = one.segments.shape
        scaled = [round(length * self.scale) for length in size]
        indices = [
            np.floor(part * length / total).astype(np.int64)
            for part, length, total in zip(self.positions(), size, scaled, strict=True)
        ]
        inside = np.all(
            [(part >= 0) & (part < length) for part, length in zip(indices, size, strict=True)], axis=0
        )
        # the outermost segments continue beyond the border, so that no boundary runs along it
        segments = one.segments[indices[0].clip(0, size[0] - 1), indices[1].clip(0, size[1] - 1)]
        return Drawing(np.where(inside, segments, VOID), thin(segment_changes(segments)) & inside)
