"""Read an image file's pixels in full depth, or refuse a file that would lose channels, pages or bits."""

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

# our errors replace its log of broken files
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

DEEPEST = 2**16 - 1

DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes of more than 8 bits. Their `convert` clips at 255."""

PAGED_FORMATS = ("TIFF", "GIF", "PNG", "WEBP")
"""Formats whose further frames are separate images, not layers or a camera's previews."""

TIFF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

DIRECT_COLOURS = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
"""Photometric interpretations whose channels need no conversion."""

MAX_COMPRESSION = 100_000
"""Most pixels a byte of a TIFF file. No compression yields more, so a header with more is damaged."""

SIZ = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream. The bits of its first channel follow SIZ_BITS bytes later."""

SIZ_BITS = 42


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn any error of an image library into one line. Broken files raise errors of many kinds.

    Raises:
        UserError: naming the file.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"image {path} must exist, got none. Complete the download.") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"image {path} must be smaller, got {error}. Cut it into smaller images.") from error
    except Exception as error:
        reason = str(error).splitlines()[0].replace(str(path), "") if str(error) else ""
        if "imagecodecs" in reason:
            raise UserError(
                f"image {path} must have a decoder, got none ({reason}). "
                "Run pip install imagecodecs, or save it uncompressed."
            ) from error
        raise UserError(
            f"image {path} must decode, got {type(error).__name__}: {reason}. Replace or remove it."
        ) from error


def is_tiff(path: Path) -> bool:
    """Return whether a file's first bytes are those of TIFF."""
    with path.open("rb") as content:
        return content.read(4) in TIFF_BEGINS


def check_single(image: Image.Image, path: Path) -> None:
    """Refuse a file of several pages, of which only the first would be read.

    Raises:
        UserError: it has several pages, or is cut off between them.
    """
    with decoding(path):
        refuse_pages(getattr(image, "n_frames", 1) if image.format in PAGED_FORMATS else 1, path)


def refuse_pages(pages: int, path: Path) -> None:
    """Refuse an image with more than one page.

    Raises:
        UserError: there are several.
    """
    if pages > 1:
        raise UserError(f"image {path} must have one page, got {pages} pages. Save them as separate files.")


def check_page(tiff: tifffile.TiffFile, path: Path) -> tifffile.TiffPage:
    """Return the only page of a TIFF file.

    Raises:
        UserError: several pages, planes or slices, or more pixels than Pillow's limit.
    """
    page = tiff.pages[0]
    assert isinstance(page, tifffile.TiffPage)
    # ImageJ writes stacks above 4 GB as one page, with the other pages' pixels behind it
    stack = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    refuse_pages(max(len(tiff.pages), stack, page.imagedepth), path)
    bound = Image.MAX_IMAGE_PIXELS
    if bound is not None and page.imagelength * page.imagewidth > 2 * bound:
        raise UserError(
            f"image {path} must have at most {2 * bound:,} pixels, got {page.imagelength} x "
            f"{page.imagewidth}. Cut it into smaller images."
        )
    if not 0 < page.imagelength * page.imagewidth < MAX_COMPRESSION * path.stat().st_size:
        raise UserError(
            f"image {path} must have a header that fits its {path.stat().st_size:,} bytes, got "
            f"{page.imagelength} x {page.imagewidth} pixels. Replace or remove it."
        )
    return page


def read_tiff(path: Path) -> np.ndarray:
    """Return a TIFF file's page as stored: [height, width] or [height, width, 3], uint8 or uint16.

    Pillow knows most compressions, so it decodes all pages that it keeps in full. tifffile decodes the rest.

    Raises:
        UserError: several pages, channels other than grey or RGB, values other than 8 or 16 bits, or a broken
            file.
    """
    with decoding(path), tifffile.TiffFile(path) as tiff:
        page = check_page(tiff, path)
        of_colours = page.photometric in DIRECT_COLOURS
        extra = tuple(int(one) for one in page.extrasamples)
        # 1 (premultiplied) and 2 declare alpha; 0 declares another channel of unknown meaning
        alpha = of_colours and len(extra) == 1 and extra[0] > 0
        channels = page.samplesperpixel - alpha
        if of_colours and channels not in (1, 3):
            raise UserError(
                f"image {path} must have 1 or 3 channels, got {channels} channels "
                f"({page.dtype}[height, width, {channels}]{' and alpha' if alpha else ''}). "
                "Save one, or three as RGB, for the network."
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
            pixels = decode_with_pillow(path)
        else:
            pixels = page.asarray().squeeze()
            if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                pixels = np.moveaxis(pixels, 0, -1)
            # squeeze also removes the axis of a side of one pixel
            pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
        return finish_tiff(pixels, page, alpha, path)


def finish_tiff(pixels: np.ndarray, page: tifffile.TiffPage, alpha: bool, path: Path) -> np.ndarray:
    """Return a TIFF page's values with white as the largest, without alpha and a single channel's axis.

    Raises:
        UserError: values other than 8 or 16 bits, or alpha that hides pixels.
    """
    if pixels.dtype != np.uint8:
        pixels = check_16_bits(pixels, path)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels = DEEPEST - pixels
        if page.bitspersample == 12:
            pixels = (pixels.astype(np.uint32) * DEEPEST // 4095).astype(np.uint16)
    if alpha:
        refuse_hidden(pixels[..., -1] < np.iinfo(pixels.dtype).max, path)
        pixels = pixels[..., :-1]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def decode_with_pillow(path: Path) -> np.ndarray:
    """Decode a TIFF file with Pillow, in its stored orientation. Pillow turns TIFF files upright."""
    with Image.open(path) as image:
        before = read_orientation(image)
        if image.mode not in DEEP_MODES and count_bits(image, path) > 8:
            pixels = decode_deep_rgb(image, path)
        else:
            pixels = load_values(image if image.mode in (*DEEP_MODES, "L", "RGB") else image.convert("RGB"))
        return (
            pixels
            if read_orientation(image) == before
            else turn_upright(pixels, {6: 8, 8: 6}.get(before, before))
        )


def decode_image(image: Image.Image, path: Path) -> np.ndarray:
    """Return an opened file's pixels as stored: [height, width] or [height, width, 3], uint8 or uint16.

    TIFF files have their own reader, `read_tiff`.

    Raises:
        UserError: channels or bits would be lost, alpha hides pixels, or the file is broken.
    """
    with decoding(path):
        bits = count_bits(image, path)
        if image.mode in DEEP_MODES:
            return check_16_bits(load_values(image), path)
        if bits > 8:
            deep = decode_deep_rgb(image, path)
            if image.mode == "RGBA":
                refuse_hidden(deep[..., 3] < DEEPEST, path)
            return deep[..., :3]
        if image.has_transparency_data:
            colours = np.array(image.convert("RGBA"))
            refuse_hidden(colours[..., 3] < 255, path)
            return colours[..., :3]
        return np.array(image.convert("RGB"))


def decode_deep_rgb(image: Image.Image, path: Path) -> UInt16[np.ndarray, "height width channel"]:
    """Return 16-bit RGB or RGBA. Pillow keeps the upper byte, so a second pass decodes swapped bytes.

    Raises:
        UserError: Pillow cannot decode this file with swapped bytes.
    """
    tiles = list(decoder_tiles(image))
    words = [tile[3] if isinstance(tile[3], tuple) else (tile[3],) for tile in tiles]
    raw = {str(word[0]) for word in words}
    given = raw.pop() if len(raw) == 1 else ""
    if given[:-1] not in ("RGB;16", "RGBA;16") or "transparency" in image.info:
        raise UserError(
            f"image {path} must be RGB PNG or TIFF if it has more than 8 bits a channel, got {image.mode} "
            f"as {image.format}. Save it anew."
        )
    swapped = given[:-1] + (
        "B" if given[-1] == "L" or (given[-1] == "N" and sys.byteorder == "little") else "L"
    )
    upper = load_values(image)
    with Image.open(path) as again:
        # "RGB;16L" reads the lower byte of big-endian values
        again.tile = [  # type: ignore[attr-defined]
            tile._replace(args=(swapped, *tile[3][1:]) if isinstance(tile[3], tuple) else swapped)
            for tile in decoder_tiles(again)
        ]
        lower = load_values(again)
    return upper.astype(np.uint16) << 8 | lower


def load_values(image: Image.Image) -> np.ndarray:
    """Return an image's values. Loading first raises an error for a broken image, which numpy would not."""
    image.load()
    return np.array(image)


def decoder_tiles(image: Image.Image) -> Sequence[Any]:
    """Return Pillow's decoding steps of an opened file: codec, box, offset and arguments (layout first)."""
    return getattr(image, "tile", ())


def count_bits(image: Image.Image, path: Path) -> int:
    """Return the bits of a channel in the file. Pillow may keep 8 of them."""
    if image.format == "JPEG2000":
        with path.open("rb") as content:
            head = content.read(2**16)
        start = head.find(SIZ)
        return (head[start + SIZ_BITS] & 127) + 1 if start >= 0 else 8
    for tile in decoder_tiles(image):
        words = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if image.format == "PPM" and isinstance(words[-1], int) and words[-1] > 255:
            return 16
        if isinstance(words[0], str) and ";16" in words[0]:
            return 16
    return 8


def refuse_hidden(hidden: Bool[np.ndarray, "height width"], path: Path) -> None:
    """Refuse an image whose alpha hides a pixel, as viewers do not show its colour.

    Raises:
        UserError: a pixel is hidden.
    """
    if hidden.any():
        raise UserError(
            f"image {path} must be opaque, got an alpha channel that hides {int(hidden.sum())} of "
            f"{hidden.size} pixels. Flatten it onto a background, or remove alpha."
        )


def check_16_bits(pixels: np.ndarray, path: Path) -> UInt16[np.ndarray, "*shape"]:
    """Return the values as uint16.

    Raises:
        UserError: they are not integers of 16 bits, so white is unknown.
    """
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > DEEPEST:
        bounds = (
            f"values from {pixels.min():g} to {pixels.max():g}" if pixels.dtype.kind in "iuf" else "values"
        )
        raise UserError(
            f"image {path} must have integers of 8 or 16 bits, got {pixels.dtype} {bounds}. "
            "Convert it, as white is unknown otherwise."
        )
    return pixels.astype(np.uint16, copy=False)


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8. A missing or unreadable one is 1."""
    try:
        found = image.getexif().get(0x0112)
    except Exception:  # the image is fine even if its EXIF block is broken
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels [height, width, ..] upright from an EXIF orientation."""
    if orientation >= 5:  # 5: transposed; 6, 7, 8: mirrored after that
        pixels = pixels.swapaxes(0, 1)
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(
        orientation, (1, 1)
    )
    return pixels[::rows, ::columns]
