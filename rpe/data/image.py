"""Image files, opened and decoded with one clear line where they are absent or broken; turned upright; intensities stretched."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from rpe.data.pixels import (
    DEEPEST,
    check_page,
    check_single,
    decoding,
    image_pixels,
    is_tiff,
    orientation_of,
    tiff_pixels,
    tiles_of,
    turned,
    values_of,
)
from rpe.structures import UserError

LEAST_RANGE = 8
"""Levels of 255: images whose percentiles lie closer are stretched as if they lay so far apart, so that noise is not blown up."""

UNDECIDED: set[Path] = set()
"""Folders of which `tell_undecided` has told."""

SAME_VALUE, SATURATED = 0.995, 0.25
"""Shares of an image's pixels, from which on it is called nearly empty or saturated."""


@contextmanager
def of_any_size() -> Iterator[None]:
    """Pillow without its bound on an image's pixels: that is there for files of strangers."""
    bound = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def open_image(path: Path) -> Image.Image:
    """The file with its header read; its pixels come with `decode`.

    Raises:
        UserError: no such file, or no image.
    """
    with decoding(path):
        return Image.open(path)


def decode(image: Image.Image, path: Path) -> np.ndarray:
    """The values of a mask, as the file has them.

    Raises:
        UserError: the file is truncated or broken.
    """
    with decoding(path):
        return values_of(image)


class Header(NamedTuple):
    """The size (height, width) of an image file as stored, and its EXIF orientation, 1 to 8, of which 1 is upright."""

    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """The size as viewers show the image."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    @property
    def undecided(self) -> bool:
        """Whether annotations of this size may be made for the stored pixels as well as for the upright ones."""
        return self.orientation > 1 and self.upright == self.stored

    def turn(self, path: Path, size: tuple[int, int] | None, annotated: str = "annotated as") -> int:
        """Return the orientation to turn from, so that the image has the annotated size.

        Viewers and labelling tools show images upright, so that is taken wherever the size allows it.

        Args:
            path: for the message.
            size: annotated (height, width); None turns the image upright.
            annotated: for the message, what is of that size.

        Raises:
            UserError: the image has this size neither way.
        """
        if size is None or self.upright == size:
            return self.orientation
        if self.stored == size:
            return 1
        (height, width), (rows, columns) = self.stored, self.upright
        exif = (
            f" ({rows} x {columns} when its EXIF orientation {self.orientation} is applied)"
            if self.orientation > 1
            else ""
        )
        raise UserError(
            f"image {path} is {height} x {width}{exif}, but {annotated} {size[0]} x {size[1]} (height x width)"
        )


def read_header(path: Path) -> Header:
    """Return size and orientation; pixels are not decoded. A PNG file's orientation is seen where it precedes the pixels, as all writers put it.

    Raises:
        UserError: no such file, no image, or one of several pages.
    """
    with decoding(path):
        if is_tiff(path):
            with tifffile.TiffFile(path) as tiff:
                page = check_page(tiff, path)
                found = page.tags.valueof(274, 1)
                return Header((page.imagelength, page.imagewidth), found if found in range(1, 9) else 1)
    with open_image(path) as image:
        check_single(image, path)
        # Pillow would decode a PNG file to look for EXIF behind the pixels
        known = image.format != "PNG" or "exif" in image.info
        return Header((image.height, image.width), orientation_of(image) if known else 1)


def read_image(
    path: Path,
    percentiles: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
    annotated: str = "annotated as",
) -> UInt8[Tensor, "3 height width"]:
    """Return an image file as RGB, upright: the one reader of datasets and predictions.

    Values of 16 bits become 8 by one factor in all images (65,535 is white), or by the percentiles.

    Args:
        path: of the file.
        percentiles: see `stretched`; None leaves the intensities as they are.
        size: see `Header.turn`.
        annotated: see `Header.turn`.

    Raises:
        UserError: no such file, a broken one, another size, or one of which a page, a channel or bits would be lost.
    """
    header = read_header(path)
    if is_tiff(path):
        pixels = tiff_pixels(path)
    else:
        with open_image(path) as image:
            pixels = image_pixels(image, path)
            header = Header(header.stored, orientation_of(image))
    turn = header.turn(path, size, annotated)
    if size is not None and header.undecided:
        tell_undecided(path, header.orientation)
    return as_rgb(turned(pixels, turn), percentiles)


def tell_undecided(path: Path, orientation: int) -> None:
    """Tell once a folder of an image whose size does not tell how its masks were drawn."""
    if path.parent not in UNDECIDED:
        UNDECIDED.add(path.parent)
        print(
            f"warning: {path} has the EXIF orientation {orientation}, and its size does not tell whether its masks were drawn on the upright or the "
            "stored pixels; such images of this folder are turned upright, as viewers and labelling tools show them: remove the tag if that is wrong",
            file=sys.stderr,
            flush=True,
        )


def as_rgb(pixels: np.ndarray, percentiles: tuple[float, float] | None) -> UInt8[Tensor, "3 height width"]:
    """Return values [height, width] or [height, width, 3] of 8 or 16 bits as RGB of 8, with percentiles `stretched`."""
    if pixels.dtype == np.uint16:
        pixels = as_bytes(pixels, percentiles)
        percentiles = None
    colours = np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels
    # always a copy: an array is the caller's
    out = torch.from_numpy(np.array(colours.transpose(2, 0, 1), order="C"))
    return out if percentiles is None else stretched(out, percentiles)


def as_bytes(pixels: np.ndarray, percentiles: tuple[float, float] | None) -> np.ndarray:
    """Return 16-bit values as bytes; with percentiles `stretched` before, as a camera's 12 bits fill a small part of 16."""
    if percentiles is None:
        return np.rint(np.arange(DEEPEST + 1) * (255 / DEEPEST)).astype(np.uint8)[pixels]
    levels = 2 ** max(8, int(pixels.max()).bit_length())
    low, high = np.percentile(pixels, percentiles)
    table = (
        np.rint((np.arange(levels) - low) * 255 / max(high - low, LEAST_RANGE * levels / 256))
        .clip(0, 255)
        .astype(np.uint8)
    )
    return table[pixels]


def describe_fault(image: UInt8[Tensor, "3 height width"]) -> str | None:
    """Say what makes it unlikely that an image shows anything: constant, nearly empty or saturated; None where nothing does."""
    colours = image.reshape(3, -1)
    low, high = int(colours.min()), int(colours.max())
    if low == high:
        return f"constant, all values are {low} of 255"
    grey = colours.to(torch.int32)
    counts = torch.unique(grey[0] << 16 | grey[1] << 8 | grey[2], return_counts=True)[1]
    most = float(counts.max()) / colours.shape[1]
    if most > SAME_VALUE:
        return f"nearly empty, {most:.1%} of its pixels have one value"
    if high - low < LEAST_RANGE:
        return f"nearly constant, its values lie from {low} to {high} of 255"
    white = float((colours.amin(0) == high).float().mean())
    return (
        f"saturated or with a white background, {white:.0%} of its pixels have the largest value {high}"
        if white > SATURATED
        else None
    )


def check_sides(longest_side: int | None, crop: int) -> None:
    """Refuse lengths that no image has.

    Raises:
        UserError: naming the option.
    """
    for option, side in (("longest_side", longest_side), ("crop", crop)):
        if side is not None and side < 1:
            raise UserError(f"data.{option} {side} is below 1: it is a length in pixels")


def check_percentile_range(percentiles: list[float]) -> tuple[float, float]:
    """The pair, if it is one.

    Raises:
        UserError: not two percentiles in order.
    """
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise UserError(
            f"data.percentile_range {percentiles} is no pair of percentiles: name the darker and the brighter one, such as [1, 99.8], or null"
        )
    return percentiles[0], percentiles[1]


def stretched(
    image: UInt8[Tensor, "3 height width"], percentiles: tuple[float, float]
) -> UInt8[Tensor, "3 height width"]:
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
        percentile_range: percentiles of the intensities that become black and white; None leaves the intensities as they are.
    """

    longest_side: int | None = None
    percentile_range: tuple[float, float] | None = None

    def read(self, image: np.ndarray | Image.Image | str | Path) -> UInt8[Tensor, "3 height width"]:
        """Return an image of any size with the intensities that evaluation would give it, at its own size, upright by its EXIF orientation.

        Args:
            image: a file, a Pillow image, or an array as `read_array` takes it.

        Raises:
            UserError: what `read_image` or `read_array` refuses.
        """
        if isinstance(image, np.ndarray):
            return self.read_array(image)
        with of_any_size():
            return (
                self.read_opened(image)
                if isinstance(image, Image.Image)
                else read_image(Path(image), self.percentile_range)
            )

    def read_opened(self, image: Image.Image) -> UInt8[Tensor, "3 height width"]:
        """Return a Pillow image as `read_image` would its file: from that where nothing is decoded yet, as Pillow drops bits of some."""
        file = Path(os.fsdecode(getattr(image, "filename", None) or "(in memory)"))
        if tiles_of(image) and file.is_file():
            return read_image(file, self.percentile_range)
        check_single(image, file)
        with decoding(file):
            # of a copy Pillow knows no file, so that nothing is decoded again
            decoded = image.copy()
        return as_rgb(turned(image_pixels(decoded, file), orientation_of(decoded)), self.percentile_range)

    def read_array(self, pixels: np.ndarray) -> UInt8[Tensor, "3 height width"]:
        """Return an array as `read` would a file of these pixels.

        Args:
            pixels: [height, width] or [height, width, 3]; uint8 (white is 255), uint16 (65,535) or floating-point (1).

        Raises:
            UserError: another shape, type or range.
        """
        if pixels.size == 0 or (pixels.ndim != 2 and pixels.shape[2:] != (3,)):
            raise UserError(
                f"image must be [height, width] or [height, width, 3], got {list(pixels.shape)}. Choose its channels."
            )
        if pixels.dtype.kind == "f":
            low, high = float(pixels.min()), float(pixels.max())
            if not 0 <= low <= high <= 1:
                raise UserError(
                    f"image must lie in [0, 1] where it is floating-point, got {low:g} to {high:g}. Divide it by white."
                )
            pixels = np.rint(pixels.astype(np.float64) * DEEPEST).astype(np.uint16)
        if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
            raise UserError(
                f"image must be uint8, uint16 or floating-point, got {pixels.dtype}. Convert it by image.astype(numpy.uint16)."
            )
        return as_rgb(
            pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16), self.percentile_range
        )

    def for_network(self, image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 _ _"]:
        """Return an image at the size that evaluation would give it."""
        smaller = smaller_size((image.shape[1], image.shape[2]), self.longest_side)
        return image if smaller is None else transform.resize(image, smaller, antialias=True)
