"""Class maps as files: 8-bit PNGs of class indices, as PASCAL VOC's segmentation task wants them."""

import io
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from rpe.data.image import decode, open_image
from rpe.data.listed import instead_of
from rpe.data.voc_mask import palette
from rpe.structures import UserError

INDEXED = ("P", "L")
"""Of Pillow's image modes those whose 8-bit values are class indices."""

WARNED: set[Path] = set()
"""Folders of which `warn_of_palette` has told."""


def class_png(classes: Int64[np.ndarray, "height width"]) -> bytes:
    """A class map, 0 the background, in VOC's colours."""
    image = Image.fromarray(classes.astype(np.uint8)).convert("P")
    image.putpalette(palette().ravel().tolist())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def read_png(content: bytes) -> Int64[np.ndarray, "height width"]:
    """The classes of `class_png`."""
    return np.array(Image.open(io.BytesIO(content))).astype(np.int64)


def find_maps(folder: Path, names: Mapping[int, str]) -> dict[int, Path]:
    """`<folder>/<name>.png` of each image.

    Raises:
        UserError: the first that is missing.
    """
    files = {image_id: folder / f"{name}.png" for image_id, name in names.items()}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        other = instead_of(missing[0])
        raise UserError(
            f"class map {missing[0]} is missing ({len(missing)} such{other}): every image of the split needs one, or restrict names"
        )
    return files


def read_map(file: Path, size: tuple[int, int], classes: int) -> Int64[np.ndarray, "height width"]:
    """Anybody's class map for an image of `size` (height, width): a palette or grey PNG of 8 bits.

    Raises:
        UserError: it does not decode, has other bits, another size, or a value beyond the number of classes.
    """
    with open_image(file) as image:
        if image.mode not in INDEXED:
            raise UserError(
                f"class map {file} is {image.mode}, not an 8-bit palette or grey image: its values are class indices, not colours"
            )
        values = decode(image, file).astype(np.int64)
        colours = (
            np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
            if image.mode == "P"
            else None
        )
    if values.shape != size:
        raise UserError(
            f"class map {file} is {values.shape[0]} x {values.shape[1]}, but its image {size[0]} x {size[1]} (height x width)"
        )
    if values.max() > classes:
        raise UserError(
            f"class map {file} holds {values.max()}, but the data have the classes 0 (background) to {classes}; void is never predicted"
        )
    if colours is not None:
        warn_of_palette(colours, np.unique(values), file)
    return values


def warn_of_palette(
    colours: UInt8[np.ndarray, "colour 3"], used: Int64[np.ndarray, " value"], file: Path
) -> None:
    """Warn, once a folder, of a palette in which the used indices have other colours than VOC's or their own grey."""
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    inside = used[used < len(colours)]
    if len(inside) == len(used) and any((colours[used] == known[used]).all() for known in (palette(), greys)):
        return
    if file.parent not in WARNED:
        WARNED.add(file.parent)
        shown = ", ".join(f"{index} {tuple(colours[index].tolist())}" for index in inside[:3])
        print(
            f"warning: class map {file} has a palette that is not VOC's (index and colour: {shown}): its indices are read as classes, colours are not; "
            "if the colours or greys tell the classes, save their indices instead",
            file=sys.stderr,
            flush=True,
        )
