"""Image files, opened and decoded with one clear line where they are absent or broken; intensities stretched."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8, UInt16
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from rpe.structures import UserError

LEAST_RANGE = 8
"""Levels of 255: images whose percentiles lie closer are stretched as if they lay so far apart, so that noise is not blown up."""

DEEPEST = 2**16 - 1

DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Of Pillow's images with more than 8 bits a pixel, whose `convert` clips at 255."""


BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error)
"""What Pillow raises at files that are no images, or broken ones."""

PAGED = ("TIFF", "GIF", "PNG", "WEBP")
"""Formats whose further frames are images in their own right, and neither layers nor a camera's previews."""


@contextmanager
def of_any_size() -> Iterator[None]:
    """Pillow without its bound on an image's pixels: that is there for files of strangers."""
    bound = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def check_single(image: Image.Image, path: Path) -> None:
    """Refuse a file of several pages, of which only the first would be seen.

    Raises:
        UserError: it has several, or breaks off between them.
    """
    try:
        pages = getattr(image, "n_frames", 1) if image.format in PAGED else 1
    except BROKEN as error:
        raise UserError(f"image {path} does not decode ({error}): replace or remove it") from error
    if pages > 1:
        raise UserError(f"image {path} has {pages} pages: save its pages as files of their own")


def open_image(path: Path) -> Image.Image:
    """The file with its header read; its pixels come with `decode`.

    Raises:
        UserError: no such file, or no image.
    """
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist: complete the download") from error
    except BROKEN as error:
        raise UserError(f"image {path} does not decode ({type(error).__name__}): replace or remove it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"image {path} is too large ({error}): cut it") from error


def decode(image: Image.Image, path: Path, mode: str | None) -> np.ndarray:
    """The pixels in a mode such as RGB; None for the file's own.

    Grey values of 16 bits become 8 by one factor in all images (65,535 is white), where Pillow would clip what is above 255.

    Raises:
        UserError: the file is truncated or broken, or has more than 16 bits where a mode is asked for.
    """
    try:
        if mode is None or image.mode not in DEEP_MODES:
            return np.array(image if mode is None else image.convert(mode))
        pixels = np.array(image)
    except BROKEN as error:
        raise UserError(f"image {path} does not decode ({error}): replace or remove it") from error
    return np.array(Image.fromarray(in_8_bits(of_16_bits(pixels, path), None)).convert(mode))


def of_16_bits(pixels: np.ndarray, path: Path) -> UInt16[np.ndarray, "height width"]:
    """The values, if they are whole numbers of at most 16 bits.

    Raises:
        UserError: they are not, so that nobody knows what is white.
    """
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > DEEPEST:
        raise UserError(f"image {path} has values from {pixels.min():g} to {pixels.max():g}: save it with 8 or 16 bits, so that white is known")
    return pixels.astype(np.uint16, copy=False)


def decode_stretched(image: Image.Image, path: Path, percentiles: tuple[float, float]) -> UInt8[Tensor, "3 height width"]:
    """The pixels as RGB, `stretched`; grey values of 16 bits before they become 8, as a camera's 12 bits fill a small part of these.

    Raises:
        UserError: as `decode`.
    """
    if image.mode not in DEEP_MODES:
        return stretched(torch.from_numpy(decode(image, path, "RGB")).permute(2, 0, 1), percentiles)
    pixels = in_8_bits(of_16_bits(decode(image, path, None), path), percentiles)
    return torch.from_numpy(pixels)[None].repeat(3, 1, 1)


def in_8_bits(pixels: UInt16[np.ndarray, "*shape"], percentiles: tuple[float, float] | None) -> UInt8[np.ndarray, "*shape"]:
    """Return values of 16 bits in 8: by one factor (65,535 is white), or with percentiles so that these become 0 and 255."""
    if percentiles is None:
        table = np.rint(np.arange(DEEPEST + 1) * (255 / DEEPEST))
    else:
        levels = 2 ** max(8, int(pixels.max()).bit_length())
        low, high = np.percentile(pixels, percentiles)
        table = np.rint((np.arange(levels) - low) * 255 / max(high - low, LEAST_RANGE * levels / 256)).clip(0, 255)
    return table.astype(np.uint8)[pixels]


def check_sides(longest_side: int | None, crop: int) -> None:
    """Refuse lengths that no image has.

    Raises:
        UserError: naming the option.
    """
    for option, side in (("longest_side", longest_side), ("crop", crop)):
        if side is not None and side < 1:
            raise UserError(f"data.{option} {side} is below 1: it is a length in pixels")


def check_stretch(percentiles: list[float]) -> tuple[float, float]:
    """The pair, if it is one.

    Raises:
        UserError: not two percentiles in order.
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise UserError(f"data.stretch {percentiles} is no pair of percentiles: name the darker and the brighter one, such as [1, 99.8], or null")
    return percentiles[0], percentiles[1]


def stretched(image: UInt8[Tensor, "3 height width"], percentiles: tuple[float, float]) -> UInt8[Tensor, "3 height width"]:
    """The intensities, alike in all channels, so that the darker percentile becomes 0 and the brighter one 255."""
    low, high = np.percentile(image.numpy(), percentiles)
    levels = torch.arange(256, dtype=torch.float32)
    table = ((levels - low) * 255 / max(high - low, LEAST_RANGE)).round().clamp(0, 255).to(torch.uint8)
    # torch would want indices of 8 bytes a pixel
    return torch.from_numpy(table.numpy()[image.numpy()])


def smaller_size(size: tuple[int, int], longest_side: int | None) -> list[int] | None:
    """Return [height, width] of an image made smaller until `longest_side` fits; None where it stays as it is."""
    if longest_side is None or max(size) <= longest_side:
        return None
    shorter = max(1, round(min(size) * longest_side / max(size)))
    return [longest_side, shorter] if size[0] >= size[1] else [shorter, longest_side]


@dataclass(frozen=True)
class Reader:
    """Read images of every kind as evaluation reads the files of its data.

    Args:
        longest_side: images are made smaller until this fits, in pixels; None keeps them.
        stretch: percentiles of the intensities that become black and white; None leaves the intensities as they are.
    """

    longest_side: int | None = None
    stretch: tuple[float, float] | None = None

    def read(self, image: np.ndarray | Image.Image | str | Path) -> UInt8[Tensor, "3 height width"]:
        """Return an image with the intensities that evaluation would give it, at its own size.

        Args:
            image: a file, a Pillow image, or an array as `read_array` takes it.

        Raises:
            UserError: it is no image, a broken one, or one of several pages.
        """
        if isinstance(image, np.ndarray):
            return self.read_array(image)
        if isinstance(image, Image.Image):
            return self.decode(image, Path("(in memory)"))
        with of_any_size(), open_image(Path(image)) as opened:
            return self.decode(opened, Path(image))

    def decode(self, image: Image.Image, path: Path) -> UInt8[Tensor, "3 height width"]:
        """Return the pixels of an opened image; `path` is for messages."""
        check_single(image, path)
        if self.stretch is not None:
            return decode_stretched(image, path, self.stretch)
        return torch.from_numpy(decode(image, path, "RGB")).permute(2, 0, 1)

    def read_array(self, pixels: np.ndarray) -> UInt8[Tensor, "3 height width"]:
        """Return an array as `read` would a file of these pixels.

        Args:
            pixels: [height, width] or [height, width, 3]; uint8 (white is 255), uint16 (65,535) or floating-point (1).

        Raises:
            UserError: another shape, type or range.
        """
        if pixels.size == 0 or (pixels.ndim != 2 and pixels.shape[2:] != (3,)):
            raise UserError(f"image must be [height, width] or [height, width, 3], got {list(pixels.shape)}. Choose its channels.")
        if pixels.dtype.kind == "f":
            low, high = float(pixels.min()), float(pixels.max())
            if not 0 <= low <= high <= 1:
                raise UserError(f"image must lie in [0, 1] where it is floating-point, got {low:g} to {high:g}. Divide it by white.")
            pixels = np.rint(pixels.astype(np.float64) * DEEPEST).astype(np.uint16)
        if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
            raise UserError(f"image must be uint8, uint16 or floating-point, got {pixels.dtype}. Convert it by image.astype(numpy.uint16).")
        deep = pixels.dtype.itemsize == 2
        if deep:
            pixels = in_8_bits(pixels.astype(np.uint16), self.stretch)
        image = torch.from_numpy(pixels.copy() if pixels.ndim == 3 else np.stack([pixels] * 3, -1)).permute(2, 0, 1)
        return image if deep or self.stretch is None else stretched(image, self.stretch)

    def for_network(self, image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 _ _"]:
        """Return an image at the size that evaluation would give it."""
        smaller = smaller_size((image.shape[1], image.shape[2]), self.longest_side)
        return image if smaller is None else transform.resize(image, smaller, antialias=True)
