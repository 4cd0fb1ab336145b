"""Read and write class maps: 8-bit PNGs of class indices, as in PASCAL VOC's segmentation task."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from rpe.data.image import decode, open_image
from rpe.data.listed import name_similar_file
from rpe.data.voc_mask import palette
from rpe.errors import warn
from rpe.structures import UserError

INDEXED = ("P", "L")
"""Pillow's image modes with 8-bit values that are class indices."""


def class_png(classes: Int64[np.ndarray, "height width"]) -> bytes:
    """Encode a class map (0 is the background) as a PNG in VOC's colours."""
    image = Image.fromarray(classes.astype(np.uint8)).convert("P")
    image.putpalette(palette().ravel().tolist())
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def read_png(content: bytes) -> Int64[np.ndarray, "height width"]:
    """Decode a PNG that `class_png` wrote."""
    return np.array(Image.open(io.BytesIO(content))).astype(np.int64)


def find_maps(folder: Path, names: Mapping[int, str]) -> dict[int, Path]:
    """Return the file `<folder>/<name>.png` of each image.

    Raises:
        UserError: a file is missing; names the first.
    """
    files = {image_id: folder / f"{name}.png" for image_id, name in names.items()}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        other = name_similar_file(missing[0])
        raise UserError(
            f"class map {missing[0]} must exist, got none ({len(missing)} such{other}). "
            "Add one for every image of the split, or restrict names."
        )
    return files


def read_class_map(file: Path, size: tuple[int, int], classes: int) -> Int64[np.ndarray, "height width"]:
    """Read a class map from any tool for an image of `size` (height, width): a palette or grey PNG of 8 bits.

    Raises:
        UserError: the file does not decode, has another bit depth or size, or holds a value above the number
            of classes.
    """
    with open_image(file) as image:
        if image.mode not in INDEXED:
            raise UserError(
                f"class map {file} must be an 8-bit palette or grey image, got mode {image.mode}. "
                "Save class indices, not colours."
            )
        values = decode(image, file).astype(np.int64)
        colours = (
            np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
            if image.mode == "P"
            else None
        )
    if values.shape != size:
        raise UserError(
            f"class map {file} must be {size[0]} x {size[1]} (height x width) as its image, "
            f"got {values.shape[0]} x {values.shape[1]}. Resize it without interpolation."
        )
    if values.max() > classes:
        raise UserError(
            f"class map {file} must hold classes from 0 (background) to {classes}, got {values.max()}. "
            "Void cannot be predicted."
        )
    if colours is not None:
        warn_about_palette(colours, np.unique(values), file)
    return values


def warn_about_palette(
    colours: UInt8[np.ndarray, "colour 3"], used: Int64[np.ndarray, " value"], file: Path
) -> None:
    """Warn once per folder if the colours of the used indices are neither VOC's nor plain greys."""
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    inside = used[used < len(colours)]
    if len(inside) == len(used) and any((colours[used] == known[used]).all() for known in (palette(), greys)):
        return
    shown = ", ".join(f"{index} {tuple(colours[index].tolist())}" for index in inside[:3])
    warn(
        f"class map {file} has a palette that is not VOC's (index and colour: {shown}). "
        "Its indices are read as classes, its colours are ignored. "
        "If the colours or greys encode the classes, save the indices instead.",
        subject=("palette", file.parent),
    )
