"""Apply random flips, rotations, scales and colours to a training image and its labels, and crop a square.

All random numbers come from the caller's generator. A sample is thus a function of seed, epoch and index, in
any worker. torchvision v2's transform classes draw from torch's global generator, so only its functions are
used.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from rpe.structures import VOID, UserError, reflect_indices


class Chance(NamedTuple):
    """A uniform value between `low` and `high`, drawn with `probability`."""

    probability: float
    low: float
    high: float

    def draw(self, random: np.random.Generator) -> float | None:
        """Return a value or None. Both draw the same count of numbers, so later draws do not change."""
        drawn = self.draw_several(1, random)
        return None if drawn is None else drawn[0]

    def draw_several(self, count: int, random: np.random.Generator) -> list[float] | None:
        """Return `count` values, or None for all of them together."""
        coin, *fractions = random.random(1 + count).tolist()
        if coin >= self.probability:
            return None
        return [self.low + fraction * (self.high - self.low) for fraction in fractions]


NO_CHANCE = Chance(0.0, 0.0, 0.0)


def parse_chance(name: str, setting: Mapping[str, Any] | None, above: float) -> Chance:
    """Check a range from the YAML. None means never.

    Raises:
        UserError: wrong keys, a probability outside [0, 1], low > high, or low <= `above`.
    """
    if setting is None:
        return NO_CHANCE
    if set(setting) != set(Chance._fields):
        raise UserError(
            f"augment.{name} must have {', '.join(Chance._fields)}, got {', '.join(map(str, setting))}. "
            "Set these, or null."
        )
    chance = Chance(*(float(setting[key]) for key in Chance._fields))
    check_probability(f"augment.{name}", chance.probability)
    if not above < chance.low <= chance.high < math.inf:
        raise UserError(
            f"augment.{name} must have {above:g} < low <= high, got {chance.low:g} and {chance.high:g}. "
            "Correct the range."
        )
    return chance


def check_probability(name: str, value: float) -> float:
    """Return a probability, checked to lie in [0, 1].

    Raises:
        UserError: it does not.
    """
    if not 0 <= value <= 1:
        raise UserError(f"{name} must have a probability in [0, 1], got {value:g}. Correct it.")
    return float(value)


class Augment:
    """A random augmentation of a training crop: colours first, then geometry, on the visible pixels alone.

    Ranges are {probability, low, high}, or None for never.

    Args:
        flip: probability of a horizontal flip.
        flip_vertical: probability of a vertical flip.
        quarter_turn: probability of a rotation by 90, 180 or 270 degrees.
        rotation: range of the angle in degrees.
        scale: range of the factor by which objects grow.
        gamma: range of the exponent of the intensities in [0, 1].
        brightness: range of the factor of all intensities.
        contrast: range of the factor of the distance to the mean intensity.
        channels: range of a separate factor for each channel; drawn for all three or none.
        invert: probability of inverted intensities.
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
        self.rotation, self.scale = (
            parse_chance("rotation", rotation, -math.inf),
            parse_chance("scale", scale, 0.0),
        )
        self.gamma, self.brightness = (
            parse_chance("gamma", gamma, 0.0),
            parse_chance("brightness", brightness, 0.0),
        )
        self.contrast, self.channels = (
            parse_chance("contrast", contrast, 0.0),
            parse_chance("channels", channels, 0.0),
        )

    def __call__(
        self, image: Tensor, labels: Tensor, side: int, random: np.random.Generator
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Crop a random augmented square. Beyond the image it shows the reflection, labelled void.

        A black fill would change the statistics of every normalisation layer in training, but not in
        evaluation.

        Args:
            image: uint8 or float `[3, height, width]`.
            labels: `[height, width]`.
            side: of the square, in pixels.
            random: the only source of random numbers.

        Returns:
            The image in [0, 1], and the labels with their old ids; some objects may have vanished.
        """
        angle, scale = self.rotation.draw(random) or 0.0, self.scale.draw(random) or 1.0
        shown, window, resized = compute_extents(side, angle, scale)
        corner = [draw_start(length, shown, random) - (window - shown) // 2 for length in labels.shape[-2:]]
        rows, columns = (
            reflect_indices(start, window, length)
            for start, length in zip(corner, labels.shape[-2:], strict=True)
        )
        pixels = self.change_colours(
            transform.to_dtype(image[:, rows[:, None], columns], torch.float32, scale=True), random
        )
        ids = pad_to_window(crop_inside(labels[None], corner, window), corner, window, VOID)
        pixels, ids = self.flip_and_turn(pixels, ids, random)
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

    def flip_and_turn(
        self, image: Tensor, labels: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Flip and rotate image and labels alike. The count of numbers drawn is always the same."""
        coins, turns = random.random(3), int(random.integers(1, 4))
        if coins[0] < self.flip:
            image, labels = image.flip(-1), labels.flip(-1)
        if coins[1] < self.flip_vertical:
            image, labels = image.flip(-2), labels.flip(-2)
        if coins[2] < self.quarter_turn:
            image, labels = image.rot90(turns, (-2, -1)), labels.rot90(turns, (-2, -1))
        return image, labels

    def change_colours(
        self, image: Float[Tensor, "3 height width"], random: np.random.Generator
    ) -> Float[Tensor, "3 height width"]:
        """Change gamma, brightness, contrast and channels, and invert. Each step returns to [0, 1]."""
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


def compute_extents(side: int, angle: float, scale: float) -> tuple[int, int, int]:
    """Return three lengths in pixels.

    Returns:
        The pixels of the image that the square shows along an axis, the side of the window that holds the
        rotated square, and the side of this window when scaled.
    """
    shown = max(1, round(side / scale))
    if not angle:
        return shown, shown, side
    widening = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    window = math.ceil(side / scale * widening)
    return shown, window, max(side, round(window * scale))


def draw_start(length: int, shown: int, random: np.random.Generator) -> int:
    """Draw where a crop of `shown` pixels starts along an axis of `length` pixels.

    A crop that fits lies inside the image, a larger one contains the whole image.
    """
    low, high = sorted((0, length - shown))
    return int(random.integers(low, high + 1))


def crop_inside(image: Tensor, corner: list[int], window: int) -> Tensor:
    """Return the part of a window that lies inside the image. It may be empty."""
    top, left = (max(0, start) for start in corner)
    return image[..., top : max(top, corner[0] + window), left : max(left, corner[1] + window)]


def pad_to_window(part: Tensor, corner: list[int], window: int, fill: float) -> Tensor:
    """Return the whole window: the result of `crop_inside` in its position, with `fill` around it."""
    if tuple(part.shape[-2:]) == (window, window):
        return part
    whole = torch.full((part.shape[0], window, window), fill, dtype=part.dtype)
    top, left = (max(0, -start) for start in corner)
    whole[:, top : top + part.shape[-2], left : left + part.shape[-1]] = part
    return whole
