"""Random flips, turns, scales and colours of a training image with its one label map, cut to a square (method section 7).

All numbers come from the generator that is handed in, never from torch's global one: an augmented sample stays a function of
seed, epoch and index, whatever worker makes it. torchvision v2's functions do the work; its transform classes draw globally.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from rpe.structures import VOID, UserError


class Chance(NamedTuple):
    """With `probability` a value between `low` and `high`, else none."""

    probability: float
    low: float
    high: float

    def draw(self, random: np.random.Generator) -> float | None:
        """The value; as many numbers are drawn either way, so that what follows does not depend on the coin."""
        drawn = self.draw_several(1, random)
        return None if drawn is None else drawn[0]

    def draw_several(self, count: int, random: np.random.Generator) -> list[float] | None:
        """Several values under one coin."""
        coin, *shares = random.random(1 + count).tolist()
        return (
            [self.low + share * (self.high - self.low) for share in shares]
            if coin < self.probability
            else None
        )


NEVER = Chance(0.0, 0.0, 0.0)


def chance_of(name: str, setting: Mapping[str, Any] | None, above: float) -> Chance:
    """A range of the YAML, checked; null is never.

    Raises:
        UserError: another key, a probability outside [0, 1], a range upside down or not above `above`.
    """
    if setting is None:
        return NEVER
    if set(setting) != set(Chance._fields):
        raise UserError(
            f"augment.{name} needs {', '.join(Chance._fields)}, not {', '.join(map(str, setting))}; or null"
        )
    chance = Chance(*(float(setting[key]) for key in Chance._fields))
    check_probability(f"augment.{name}", chance.probability)
    if not above < chance.low <= chance.high < math.inf:
        raise UserError(
            f"augment.{name} from {chance.low:g} to {chance.high:g} is no range: low <= high, and above {above:g}"
        )
    return chance


def check_probability(name: str, value: float) -> float:
    """The value, if it lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{name}: probability {value:g} is outside [0, 1]")
    return float(value)


class Augment:
    """What training may do to an image; the colours first, then the geometry, in one pass over what the crop will show.

    Args:
        flip: probability of left for right.
        flip_vertical: probability of top for bottom.
        quarter_turn: probability of a turn by 90, 180 or 270 degrees.
        rotation: {probability, low, high} of an angle in degrees; null is never, here and below.
        scale: of the factor by which objects become larger.
        gamma: of the exponent of the intensities in [0, 1].
        brightness: of the factor of all intensities.
        contrast: of the factor of their distance to the mean.
        channels: of a factor for each channel by itself; one coin for the three.
        invert: probability of dark for bright.
    """

    def __init__(
        self,
        flip: float,
        flip_vertical: float,
        quarter_turn: float,
        rotation: dict[str, float] | None,
        scale: dict[str, float] | None,
        gamma: dict[str, float] | None,
        brightness: dict[str, float] | None,
        contrast: dict[str, float] | None,
        channels: dict[str, float] | None,
        invert: float,
    ) -> None:
        self.flip = check_probability("augment.flip", flip)
        self.flip_vertical = check_probability("augment.flip_vertical", flip_vertical)
        self.quarter_turn = check_probability("augment.quarter_turn", quarter_turn)
        self.invert = check_probability("augment.invert", invert)
        self.rotation, self.scale = chance_of("rotation", rotation, -math.inf), chance_of("scale", scale, 0.0)
        self.gamma, self.brightness = chance_of("gamma", gamma, 0.0), chance_of("brightness", brightness, 0.0)
        self.contrast, self.channels = (
            chance_of("contrast", contrast, 0.0),
            chance_of("channels", channels, 0.0),
        )

    def __call__(
        self, image: Tensor, labels: Tensor, side: int, random: np.random.Generator
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Cut a random square of `side` pixels; beyond the image it is filled with the image's reflection, and void.

        A black fill would enter the statistics of every normalisation layer, which evaluation then does not see.

        Args:
            image: uint8 or float `[3, height, width]`.
            labels: `[height, width]`.
            side: of the square.
            random: all that is drawn comes from it.

        Returns:
            The image in [0, 1], and the labels with the ids that they had (objects may have vanished).
        """
        angle, scale = self.rotation.draw(random) or 0.0, self.scale.draw(random) or 1.0
        shown, window, resized = extents(side, angle, scale)
        corner = [start_of(length, shown, random) - (window - shown) // 2 for length in labels.shape[-2:]]
        rows, columns = (
            reflected(start, window, length) for start, length in zip(corner, labels.shape[-2:], strict=True)
        )
        pixels = self.coloured(
            transform.to_dtype(image[:, rows[:, None], columns], torch.float32, scale=True), random
        )
        ids = placed(within(labels[None], corner, window), corner, window, VOID)
        pixels, ids = self.flipped(pixels, ids, random)
        if resized != window:
            pixels = transform.resize_image(
                pixels, [resized, resized], InterpolationMode.BILINEAR, antialias=True
            )
            ids = transform.resize_image(ids, [resized, resized], InterpolationMode.NEAREST_EXACT)
        if angle:
            pixels = transform.rotate_image(pixels, angle, InterpolationMode.BILINEAR)
            ids = transform.rotate_mask(ids, angle, fill=VOID)
        square = [side, side]
        return tv_tensors.Image(transform.center_crop(pixels, square)), tv_tensors.Mask(
            transform.center_crop(ids, square)[0]
        )

    def flipped(self, image: Tensor, labels: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Flips and quarter turns, of both alike; all of it is drawn whether it happens or not."""
        coins, turns = random.random(3), int(random.integers(1, 4))
        if coins[0] < self.flip:
            image, labels = image.flip(-1), labels.flip(-1)
        if coins[1] < self.flip_vertical:
            image, labels = image.flip(-2), labels.flip(-2)
        if coins[2] < self.quarter_turn:
            image, labels = image.rot90(turns, (-2, -1)), labels.rot90(turns, (-2, -1))
        return image, labels

    def coloured(
        self, image: Float[Tensor, "3 height width"], random: np.random.Generator
    ) -> Float[Tensor, "3 height width"]:
        """Gamma, brightness, contrast, channel factors, inversion; in [0, 1] again after each."""
        gamma, brightness, contrast = (
            chance.draw(random) for chance in (self.gamma, self.brightness, self.contrast)
        )
        channels = self.channels.draw_several(3, random)
        inverted = random.random() < self.invert
        if gamma is not None:
            image = transform.adjust_gamma(image, gamma)
        if brightness is not None:
            image = transform.adjust_brightness(image, brightness)
        if contrast is not None:
            image = transform.adjust_contrast(image, contrast)
        if channels is not None:
            image = (image * torch.tensor(channels)[:, None, None]).clamp(0, 1)
        return 1 - image if inverted else image


def extents(side: int, angle: float, scale: float) -> tuple[int, int, int]:
    """How many pixels of the image the square shows along an axis; the side of the window that holds it when turned; that side when scaled."""
    shown = max(1, round(side / scale))
    if not angle:
        return shown, shown, side
    reach = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    window = math.ceil(side / scale * reach)
    return shown, window, max(side, round(window * scale))


def start_of(length: int, shown: int, random: np.random.Generator) -> int:
    """Where what is shown starts along an axis: inside the image where it fits, else so that the whole image is inside of it."""
    low, high = sorted((0, length - shown))
    return int(random.integers(low, high + 1))


def within(image: Tensor, corner: list[int], window: int) -> Tensor:
    """The part of the window that lies inside the image, perhaps nothing."""
    top, left = (max(0, start) for start in corner)
    return image[..., top : max(top, corner[0] + window), left : max(left, corner[1] + window)]


def reflected(start: int, count: int, length: int) -> Int64[Tensor, " count"]:
    """Return the indices of `count` pixels from `start` on along an axis, mirrored at both ends of its `length`."""
    index = torch.arange(start, start + count) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def placed(part: Tensor, corner: list[int], window: int, fill: float) -> Tensor:
    """The whole window: the part where it belongs, `fill` around it."""
    if tuple(part.shape[-2:]) == (window, window):
        return part
    whole = torch.full((part.shape[0], window, window), fill, dtype=part.dtype)
    top, left = (max(0, -start) for start in corner)
    whole[:, top : top + part.shape[-2], left : left + part.shape[-1]] = part
    return whole
