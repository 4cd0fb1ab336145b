"""Image files, opened and decoded with one clear line where they are absent or broken; intensities stretched."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from rpe.structures import InputError

LEAST_RANGE = 8
"""Levels of 255: images whose percentiles lie closer are stretched as if they lay so far apart, so that noise is not blown up."""


def open_image(path: Path) -> Image.Image:
    """The file with its header read; its pixels come with `decode`.

    Raises:
        InputError: no such file, or no image.
    """
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"image {path} does not exist: complete the download") from error
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"image {path} does not decode ({type(error).__name__}): replace or remove it") from error


def decode(image: Image.Image, path: Path, mode: str | None) -> np.ndarray:
    """The pixels in a mode such as RGB; None for the file's own.

    Raises:
        InputError: the file is truncated or broken.
    """
    try:
        return np.array(image if mode is None else image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"image {path} does not decode ({error}): replace or remove it") from error


def check_stretch(percentiles: list[float]) -> tuple[float, float]:
    """The pair, if it is one.

    Raises:
        InputError: not two percentiles in order.
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise InputError(f"data.stretch {percentiles} is no pair of percentiles: name the darker and the brighter one, such as [1, 99.8], or null")
    return percentiles[0], percentiles[1]


def stretched(image: UInt8[Tensor, "3 height width"], percentiles: tuple[float, float]) -> UInt8[Tensor, "3 height width"]:
    """The intensities, alike in all channels, so that the darker percentile becomes 0 and the brighter one 255."""
    low, high = np.percentile(image.numpy(), percentiles)
    levels = torch.arange(256, dtype=torch.float32)
    table = ((levels - low) * 255 / max(high - low, LEAST_RANGE)).round().clamp(0, 255).to(torch.uint8)
    return table[image.long()]
