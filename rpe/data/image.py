"""Read image files: open and decode them, turn them upright, and stretch intensities."""

import os
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
    decode_image,
    decoder_tiles,
    decoding,
    is_tiff,
    load_values,
    read_orientation,
    read_tiff,
    turn_upright,
)
from rpe.errors import warn
from rpe.structures import UserError

LEAST_RANGE = 8
"""Smallest range to which intensities are stretched, in levels of 255, so that noise is not amplified."""

SAME_VALUE, SATURATED = 0.995, 0.25
"""Fractions of an image's pixels above which it counts as nearly empty or saturated."""


@contextmanager
def lift_pixel_limit() -> Iterator[None]:
    """Lift Pillow's limit on an image's pixels, which guards against untrusted files."""
    bound = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def open_image(path: Path) -> Image.Image:
    """Open an image file and read its header. `decode` reads the pixels.

    Raises:
        UserError: no such file, or not an image.
    """
    with decoding(path):
        return Image.open(path)


def decode(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values of a mask as stored.

    Raises:
        UserError: the file is truncated or broken.
    """
    with decoding(path):
        return load_values(image)


class Header(NamedTuple):
    """The stored (height, width) of an image file, and its EXIF orientation, 1 (upright) to 8."""

    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Return the (height, width) of the upright image."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    @property
    def ambiguous(self) -> bool:
        """Return whether annotations of this size fit the stored pixels and the upright ones."""
        return self.orientation > 1 and self.upright == self.stored

    def turn(self, path: Path, size: tuple[int, int] | None, annotated: str = "annotated") -> int:
        """Return the EXIF orientation to undo, so that the image has the annotated size.

        Viewers and labelling tools show images upright, so upright is preferred if the size allows it.

        Args:
            path: for the message.
            size: annotated (height, width); None turns the image upright.
            annotated: names the annotation in the message.

        Raises:
            UserError: neither the upright nor the stored image has this size.
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
            f"image {path} must be {size[0]} x {size[1]} (height x width) as {annotated}, "
            f"got {height} x {width}{exif}. Take image and annotation of one size."
        )


def read_header(path: Path) -> Header:
    """Return size and orientation without decoding pixels.

    In a PNG file, EXIF data behind the pixels are not seen. All common writers put them before.

    Raises:
        UserError: no such file, not an image, or several pages.
    """
    with decoding(path):
        if is_tiff(path):
            with tifffile.TiffFile(path) as tiff:
                page = check_page(tiff, path)
                found = page.tags.valueof(274, 1)
                return Header((page.imagelength, page.imagewidth), found if found in range(1, 9) else 1)
    with open_image(path) as image:
        check_single(image, path)
        # Pillow would decode a PNG file to search for EXIF behind the pixels
        known = image.format != "PNG" or "exif" in image.info
        return Header((image.height, image.width), read_orientation(image) if known else 1)


def read_image(
    path: Path,
    percentiles: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
    annotated: str = "annotated",
) -> UInt8[Tensor, "3 height width"]:
    """Return an image file as upright RGB. Datasets and predictions share this reader.

    16-bit values become 8-bit by one factor for all images (65,535 is white), or by the percentiles.

    Args:
        path: of the file.
        percentiles: see `stretch_intensities`; None keeps the intensities.
        size: see `Header.turn`.
        annotated: see `Header.turn`.

    Raises:
        UserError: a missing or broken file, another size, or a loss of pages, channels or bits.
    """
    header = read_header(path)
    if is_tiff(path):
        pixels = read_tiff(path)
    else:
        with open_image(path) as image:
            pixels = decode_image(image, path)
            header = Header(header.stored, read_orientation(image))
    turn = header.turn(path, size, annotated)
    if size is not None and header.ambiguous:
        warn_ambiguous(path, header.orientation)
    return to_rgb(turn_upright(pixels, turn), percentiles)


def warn_ambiguous(path: Path, orientation: int) -> None:
    """Warn, once a folder, of an image whose masks may fit its upright or its stored pixels."""
    warn(
        f"{path} has the EXIF orientation {orientation}, and its size fits masks of the upright and of the "
        "stored pixels. Such images of this folder are turned upright, as viewers and labelling tools show "
        "them. If that is wrong, remove the tag",
        subject=("orientation", path.parent),
    )


def to_rgb(pixels: np.ndarray, percentiles: tuple[float, float] | None) -> UInt8[Tensor, "3 height width"]:
    """Convert 8 or 16-bit values [height, width] or [height, width, 3] to 8-bit RGB, stretched."""
    if pixels.dtype == np.uint16:
        pixels = to_bytes(pixels, percentiles)
        percentiles = None
    colours = np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels
    # always a copy, as the array may belong to the caller
    out = torch.from_numpy(np.array(colours.transpose(2, 0, 1), order="C"))
    return out if percentiles is None else stretch_intensities(out, percentiles)


def to_bytes(pixels: np.ndarray, percentiles: tuple[float, float] | None) -> np.ndarray:
    """Convert 16-bit values to bytes, stretched before, as 12-bit cameras leave high bits unused."""
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
    """Describe why an image probably shows nothing: constant, nearly empty or saturated. Else return None."""
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
    """Check lengths in pixels.

    Raises:
        UserError: naming the option.
    """
    for option, side in (("longest_side", longest_side), ("crop", crop)):
        if side is not None and side < 1:
            raise UserError(f"data.{option} must be >= 1 in pixels, got {side}. Raise it.")


def check_percentile_range(percentiles: list[float] | None) -> tuple[float, float] | None:
    """Return two percentiles, checked; None stays.

    Raises:
        UserError: not two percentiles in ascending order.
    """
    if percentiles is None:
        return None
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise UserError(
            f"data.percentile_range must be two ascending percentiles, got {percentiles}. "
            "Set [1, 99.8], or null."
        )
    return percentiles[0], percentiles[1]


def stretch_intensities(
    image: UInt8[Tensor, "3 height width"], percentiles: tuple[float, float]
) -> UInt8[Tensor, "3 height width"]:
    """Map the lower percentile of the intensities to 0 and the upper one to 255, alike in all channels."""
    low, high = np.percentile(image.numpy(), percentiles)
    levels = torch.arange(256, dtype=torch.float32)
    table = ((levels - low) * 255 / max(high - low, LEAST_RANGE)).round().clamp(0, 255).to(torch.uint8)
    # torch would need indices of 8 bytes a pixel
    return torch.from_numpy(table.numpy()[image.numpy()])


def shrunk_size(size: tuple[int, int], longest_side: int | None) -> list[int] | None:
    """Return the [height, width] of an image resized to `longest_side`, or None if it is not larger."""
    if longest_side is None or max(size) <= longest_side:
        return None
    shorter = max(1, round(min(size) * longest_side / max(size)))
    return [longest_side, shorter] if size[0] >= size[1] else [shorter, longest_side]


@dataclass(frozen=True)
class Reader:
    """A reader of files, Pillow images and arrays, equal to evaluation's.

    Args:
        longest_side: larger images are resized to this longest side in pixels; None keeps their size.
        percentile_range: percentiles of the intensities that become black and white; None keeps the
            intensities.
    """

    longest_side: int | None = None
    percentile_range: tuple[float, float] | None = None

    def read(self, image: np.ndarray | Image.Image | str | Path) -> UInt8[Tensor, "3 height width"]:
        """Return an image of any size, upright by its EXIF orientation, with the intensities of evaluation.

        Args:
            image: a file, a Pillow image, or an array for `read_array`.

        Raises:
            UserError: `read_image` or `read_array` refuses it.
        """
        if isinstance(image, np.ndarray):
            return self.read_array(image)
        with lift_pixel_limit():
            if isinstance(image, Image.Image):
                return self.read_opened(image)
            return read_image(Path(image), self.percentile_range)

    def read_opened(self, image: Image.Image) -> UInt8[Tensor, "3 height width"]:
        """Return a Pillow image. Before decoding, its file is read instead, as Pillow may drop bits."""
        file = Path(os.fsdecode(getattr(image, "filename", None) or "(in memory)"))
        if decoder_tiles(image) and file.is_file():
            return read_image(file, self.percentile_range)
        check_single(image, file)
        with decoding(file):
            # Pillow knows no file of a copy, so nothing is decoded again
            decoded = image.copy()
        return to_rgb(
            turn_upright(decode_image(decoded, file), read_orientation(decoded)), self.percentile_range
        )

    def read_array(self, pixels: np.ndarray) -> UInt8[Tensor, "3 height width"]:
        """Return an array like a file of these pixels.

        Args:
            pixels: [height, width] or [height, width, 3]; uint8 (white is 255), uint16 (65,535) or
                floating-point (1).

        Raises:
            UserError: another shape, type or range.
        """
        if pixels.size == 0 or (pixels.ndim != 2 and pixels.shape[2:] != (3,)):
            raise UserError(
                f"image must be [height, width] or [height, width, 3], got {list(pixels.shape)}. "
                "Choose its channels."
            )
        if pixels.dtype.kind == "f":
            low, high = float(pixels.min()), float(pixels.max())
            if not 0 <= low <= high <= 1:
                raise UserError(
                    f"image must lie in [0, 1] if it is floating-point, got {low:g} to {high:g}. "
                    "Divide it by white."
                )
            pixels = np.rint(pixels.astype(np.float64) * DEEPEST).astype(np.uint16)
        if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
            raise UserError(
                f"image must be uint8, uint16 or floating-point, got {pixels.dtype}. "
                "Use image.astype(numpy.uint16)."
            )
        return to_rgb(
            pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16), self.percentile_range
        )

    def for_network(self, image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 _ _"]:
        """Resize an image to the size of evaluation."""
        smaller = shrunk_size((image.shape[1], image.shape[2]), self.longest_side)
        return image if smaller is None else transform.resize(image, smaller, antialias=True)
