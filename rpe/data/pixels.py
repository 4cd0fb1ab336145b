"""Read an image file's pixels in full depth, or refuse the file where a channel, a page or bits would be lost. Pillow drops these without a word."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Bool, UInt16
from PIL import Image

from rpe.structures import UserError

# what it logs of broken files, the one line tells
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

DEEPEST = 2**16 - 1

DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes of more than 8 bits, whose `convert` clips at 255."""

PAGED = ("TIFF", "GIF", "PNG", "WEBP")
"""Formats whose further frames are images in their own right, not layers or a camera's previews."""

TIFF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

COLOURS = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
"""Photometric interpretations whose channels need no conversion."""

LARGEST_RATIO = 100_000
"""More pixels than that in a byte of a TIFF file, no compression makes."""

SIZ = b"\xff\x4f\xff\x51"
"""Begins a JPEG 2000 codestream; the bits of its first channel follow SIZ_BITS bytes later."""

SIZ_BITS = 42


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn any error of a reader into one line: garbage makes readers fail in every way there is.

    Raises:
        UserError: naming the file.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist: complete the download") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"image {path} is too large ({error}): cut it") from error
    except Exception as error:
        reason = str(error).splitlines()[0].replace(str(path), "") if str(error) else ""
        if "imagecodecs" in reason:
            raise UserError(
                f"image {path} needs a decoder ({reason}): pip install imagecodecs, or save it uncompressed"
            ) from error
        raise UserError(
            f"image {path} does not decode ({type(error).__name__}: {reason}): replace or remove it"
        ) from error


def is_tiff(path: Path) -> bool:
    """Tell a TIFF file by its first bytes."""
    with path.open("rb") as content:
        return content.read(4) in TIFF_BEGINS


def check_single(image: Image.Image, path: Path) -> None:
    """Refuse a file of several pages, of which only the first would be seen.

    Raises:
        UserError: it has several, or breaks off between them.
    """
    with decoding(path):
        refuse_pages(getattr(image, "n_frames", 1) if image.format in PAGED else 1, path)


def refuse_pages(pages: int, path: Path) -> None:
    """Raises: UserError: more pages than one."""
    if pages > 1:
        raise UserError(f"image {path} has {pages} pages: save its pages as files of their own")


def check_page(tiff: tifffile.TiffFile, path: Path) -> tifffile.TiffPage:
    """Return the one page of a TIFF file.

    Raises:
        UserError: it has several pages, planes or slices, or more pixels than Pillow would open.
    """
    page = tiff.pages[0]
    assert isinstance(page, tifffile.TiffPage)
    # ImageJ writes stacks of more than 4 GB as one page with the others behind it
    stack = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    refuse_pages(max(len(tiff.pages), stack, page.imagedepth), path)
    bound = Image.MAX_IMAGE_PIXELS
    if bound is not None and page.imagelength * page.imagewidth > 2 * bound:
        raise UserError(f"image {path} is too large ({page.imagelength} x {page.imagewidth} pixels): cut it")
    if not 0 < page.imagelength * page.imagewidth < LARGEST_RATIO * path.stat().st_size:
        raise UserError(
            f"image {path} cannot have {page.imagelength} x {page.imagewidth} pixels, as its header tells: replace or remove it"
        )
    return page


def tiff_pixels(path: Path) -> np.ndarray:
    """Return a TIFF file's page as stored: [height, width] or [height, width, 3], uint8 or uint16.

    Pillow decodes what it keeps in full, as it knows most compressions; tifffile decodes the rest.

    Raises:
        UserError: several pages, channels that are no grey or RGB image, values that are no 8 or 16 bits, or a broken file.
    """
    with decoding(path), tifffile.TiffFile(path) as tiff:
        page = check_page(tiff, path)
        of_colours = page.photometric in COLOURS
        extra = tuple(int(one) for one in page.extrasamples)
        # alpha is declared as 1 (premultiplied) or 2; 0 only says that there is another channel
        alpha = of_colours and len(extra) == 1 and extra[0] > 0
        channels = page.samplesperpixel - alpha
        if of_colours and channels not in (1, 3):
            raise UserError(
                f"image {path} has {channels} channels ({page.dtype}[height, width, {channels}]{' and alpha' if alpha else ''}): "
                "save the one, or the three as RGB, that the network should see"
            )
        bits = page.bitspersample
        few_bits = bits < 8 or (bits in (8, 12) and page.sampleformat == tifffile.SAMPLEFORMAT.UINT)
        named_rgb = page.photometric == tifffile.PHOTOMETRIC.RGB or page.samplesperpixel == 1
        plain = few_bits and named_rgb and not extra and not (bits == 12 and channels > 1)
        grey = page.samplesperpixel == 1 and page.dtype in (np.uint16, np.int16, np.float32)
        deep = (
            page.dtype == np.uint16
            and page.photometric == tifffile.PHOTOMETRIC.RGB
            and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        )
        if not of_colours or plain or grey or (deep and extra in ((), (2,))):
            pixels = opened_pixels(path)
        else:
            pixels = page.asarray().squeeze()
            if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                pixels = np.moveaxis(pixels, 0, -1)
            # squeeze would take the axis of a side of one pixel too
            pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
        return finished(pixels, page, alpha, path)


def finished(pixels: np.ndarray, page: tifffile.TiffPage, alpha: bool, path: Path) -> np.ndarray:
    """Return a TIFF page's decoded values with white as the largest, without an alpha channel that hides nothing, and without an axis of one channel.

    Raises:
        UserError: no 8 or 16 bits, or alpha that hides pixels.
    """
    if pixels.dtype != np.uint8:
        pixels = of_16_bits(pixels, path)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels = DEEPEST - pixels
        if page.bitspersample == 12:
            pixels = (pixels.astype(np.uint32) * DEEPEST // 4095).astype(np.uint16)
    if alpha:
        refuse_hidden(pixels[..., -1] < np.iinfo(pixels.dtype).max, path)
        pixels = pixels[..., :-1]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def opened_pixels(path: Path) -> np.ndarray:
    """Return what Pillow makes of a TIFF file, lying as stored: Pillow turns TIFF files upright."""
    with Image.open(path) as image:
        before = orientation_of(image)
        if image.mode not in DEEP_MODES and bits_of(image, path) > 8:
            pixels = both_bytes(image, path)
        else:
            pixels = values_of(image if image.mode in (*DEEP_MODES, "L", "RGB") else image.convert("RGB"))
        return pixels if orientation_of(image) == before else turned(pixels, {6: 8, 8: 6}.get(before, before))


def image_pixels(image: Image.Image, path: Path) -> np.ndarray:
    """Return an opened file's pixels as stored, but for TIFF: [height, width] or [height, width, 3], uint8 or uint16.

    Raises:
        UserError: a channel or bits would be lost, alpha hides pixels, or the file is broken.
    """
    with decoding(path):
        bits = bits_of(image, path)
        if image.mode in DEEP_MODES:
            return of_16_bits(values_of(image), path)
        if bits > 8:
            deep = both_bytes(image, path)
            if image.mode == "RGBA":
                refuse_hidden(deep[..., 3] < DEEPEST, path)
            return deep[..., :3]
        if image.has_transparency_data:
            colours = np.array(image.convert("RGBA"))
            refuse_hidden(colours[..., 3] < 255, path)
            return colours[..., :3]
        return np.array(image.convert("RGB"))


def both_bytes(image: Image.Image, path: Path) -> UInt16[np.ndarray, "height width channel"]:
    """Return RGB or RGBA of 16 bits a channel, of which Pillow keeps the upper byte: it is decoded again as if the bytes were swapped.

    Raises:
        UserError: Pillow knows no such way for this file.
    """
    tiles = list(tiles_of(image))
    words = [tile[3] if isinstance(tile[3], tuple) else (tile[3],) for tile in tiles]
    raw = {str(word[0]) for word in words}
    given = raw.pop() if len(raw) == 1 else ""
    if given[:-1] not in ("RGB;16", "RGBA;16") or "transparency" in image.info:
        raise UserError(
            f"image {path} has more than 8 bits in each of {image.mode}, of which 8 would be read: save it as a plain RGB PNG or TIFF"
        )
    swapped = given[:-1] + (
        "B" if given[-1] == "L" or (given[-1] == "N" and sys.byteorder == "little") else "L"
    )
    upper = values_of(image)
    with Image.open(path) as again:
        # "RGB;16L" of big-endian values is their lower byte
        again.tile = [  # type: ignore[attr-defined]
            tile._replace(args=(swapped, *tile[3][1:]) if isinstance(tile[3], tuple) else swapped)
            for tile in tiles_of(again)
        ]
        lower = values_of(again)
    return upper.astype(np.uint16) << 8 | lower


def values_of(image: Image.Image) -> np.ndarray:
    """Return an image's values; numpy alone would make an object of an image that cannot be decoded."""
    image.load()
    return np.array(image)


def tiles_of(image: Image.Image) -> Sequence[Any]:
    """Return how Pillow decodes a file that it has opened: codec, place, offset, and the codec's words, of which the first is the bytes' layout."""
    return getattr(image, "tile", ())


def bits_of(image: Image.Image, path: Path) -> int:
    """Return the bits of a channel in the file, where Pillow would keep 8."""
    if image.format == "JPEG2000":
        with path.open("rb") as content:
            head = content.read(2**16)
        start = head.find(SIZ)
        return (head[start + SIZ_BITS] & 127) + 1 if start >= 0 else 8
    for tile in tiles_of(image):
        words = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if image.format == "PPM" and isinstance(words[-1], int) and words[-1] > 255:
            return 16
        if isinstance(words[0], str) and ";16" in words[0]:
            return 16
    return 8


def refuse_hidden(hidden: Bool[np.ndarray, "height width"], path: Path) -> None:
    """Raises: UserError: alpha hides a pixel, whose colour viewers do not show."""
    if hidden.any():
        raise UserError(
            f"image {path} has an alpha channel that hides {int(hidden.sum())} of {hidden.size} pixels: flatten it onto a background, or remove alpha"
        )


def of_16_bits(pixels: np.ndarray, path: Path) -> UInt16[np.ndarray, "*shape"]:
    """Return the values, if they are whole numbers of at most 16 bits.

    Raises:
        UserError: they are not, so that white is unknown.
    """
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > DEEPEST:
        bounds = (
            f"values from {pixels.min():g} to {pixels.max():g}" if pixels.dtype.kind in "iuf" else "values"
        )
        raise UserError(
            f"image {path} has {pixels.dtype} {bounds}: save it with 8 or 16 bits, so that white is known"
        )
    return pixels.astype(np.uint16, copy=False)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of which 1 is upright; 1 where there is none that can be read."""
    try:
        found = image.getexif().get(0x0112)
    except Exception:  # a broken EXIF block is no broken image
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels [height, width, ..] turned upright from an EXIF orientation."""
    if orientation >= 5:  # 5: transposed; 6, 7, 8: mirrored after that
        pixels = pixels.swapaxes(0, 1)
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(
        orientation, (1, 1)
    )
    return pixels[::rows, ::columns]
