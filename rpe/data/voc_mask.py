"""VOC's palette masks: read, checked, and object and class map joined into labels and the class of each object."""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from rpe.data.coco import dense
from rpe.data.image import decode, open_image, read_header
from rpe.structures import BACKGROUND, VOID, UserError

# fmt: off
CATEGORIES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car",
    "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]
# fmt: on
"""Class k of the files is CATEGORIES[k - 1]."""

VOID_IN_FILES = 255

DISAGREEMENT = 0.01
"""Up to this share of the labelled pixels, object and class map may differ (they are then void); beyond, one of them is wrong."""

Annotated = tuple[Int64[np.ndarray, "height width"], Int64[np.ndarray, " object"]]
"""Labels (-1 void, 0 background, 1..n), and the class 1..20 of each object."""


@cache
def palette() -> UInt8[np.ndarray, "256 3"]:
    """VOC's colours: bit i of red, green, blue comes from bit 3 i, 3 i + 1, 3 i + 2 of the index, highest first (devkit, VOCcolormap)."""
    index = np.arange(256)
    return np.stack(
        [sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)],
        axis=1,
    ).astype(np.uint8)


def open_mask(file: Path) -> Image.Image:
    """A palette image, its header read; refuses any other."""
    image = open_image(file)
    if image.mode != "P":
        raise UserError(
            f"mask {file} is no palette image but {image.mode}: VOC's own masks are wanted, not coloured or converted ones"
        )
    return image


def read_mask(file: Path) -> UInt8[np.ndarray, "height width"]:
    """The indices of a palette image.

    Raises:
        UserError: absent, broken, not a palette image, or one with other colours than VOC's.
    """
    with open_mask(file) as image:
        indices = decode(image, file)
        colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if int(used[-1]) >= len(colours) or (colours[used] != palette()[used]).any():
        raise UserError(
            f"mask {file} has another palette than VOC's: its indices may mean other objects; download it anew"
        )
    return indices


def joined(
    objects: UInt8[np.ndarray, "height width"],
    classes: UInt8[np.ndarray, "rows columns"],
    class_of: Int64[np.ndarray, " object"] | None,
    where: str,
) -> Annotated:
    """Object map and class map as one: void where either is, ids dense.

    Args:
        objects: 0 background, 255 void.
        classes: likewise.
        class_of: the class of each object, object 1 first; None takes the class that most of its pixels have.
        where: for messages.

    Raises:
        UserError: no object, an object without a class of VOC's, maps of two sizes or that disagree.
    """
    if objects.shape != classes.shape:
        raise UserError(
            f"{where}: the object mask is {describe(objects)}, the class mask {describe(classes)} (height x width)"
        )
    void = (objects == VOID_IN_FILES) | (classes == VOID_IN_FILES)
    ids = np.unique(objects[(objects > BACKGROUND) & (objects != VOID_IN_FILES)])
    if not len(ids) and not void.any():
        raise UserError(f"{where}: the masks hold no object")
    lookup = np.zeros(256, dtype=np.int64)
    for number in ids.tolist():
        votes = np.bincount(classes[(objects == number) & ~void], minlength=1)
        lookup[number] = votes.argmax() if class_of is None else class_of[number - 1]
        if not votes.any() or not 1 <= lookup[number] <= len(CATEGORIES):
            raise UserError(
                f"{where}: object {number} has class {lookup[number] if votes.any() else 'void'}, which is none of VOC's 1 to {len(CATEGORIES)}"
            )
    differ = (lookup[objects] != classes) & ~void
    if differ.sum() > DISAGREEMENT * (~void).sum():
        raise UserError(
            f"{where}: object mask and class mask disagree on {differ.sum()} of {(~void).sum()} pixels: they are not of the same image"
        )
    labels = np.where(void | differ, VOID, objects.astype(np.int64))
    kept = np.unique(labels[labels > BACKGROUND])
    if len(kept) < len(ids):
        raise UserError(
            f"{where}: object {sorted(set(ids.tolist()) - set(kept.tolist()))[0]} lies nowhere on its class"
        )
    return dense(labels), lookup[kept]


def describe(pixels: np.ndarray) -> str:
    """Height x width."""
    return f"{pixels.shape[0]} x {pixels.shape[1]}"


def check_headers(picture: Path, mask: Path) -> None:
    """Refuse what is no mask, or one of another size than its image; only headers are read."""
    with open_mask(mask) as indices:
        read_header(picture).turn(picture, (indices.height, indices.width), f"its mask {mask} is")
