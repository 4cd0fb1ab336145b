"""Read and check VOC's palette masks, and combine object and class map into labels and classes."""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from rpe.data.coco import renumber
from rpe.data.image import decode, open_image, read_header
from rpe.structures import BACKGROUND, VOID, UserError

# fmt: off
CATEGORIES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car",
    "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]
# fmt: on
"""Class k in the files is CATEGORIES[k - 1]."""

VOID_IN_FILES = 255

DISAGREEMENT = 0.01
"""Object and class map may differ on this fraction of labelled pixels, which are void. More is an error."""

LabelsAndClasses = tuple[Int64[np.ndarray, "height width"], Int64[np.ndarray, " object"]]
"""Labels (-1 void, 0 background, 1..n objects), and the class 1..20 of each object."""


@cache
def palette() -> UInt8[np.ndarray, "256 3"]:
    """Return VOC's colours (devkit, VOCcolormap).

    Bits 3 i, 3 i + 1 and 3 i + 2 of the index become bit 7 - i of red, green and blue.
    """
    index = np.arange(256)
    return np.stack(
        [sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)],
        axis=1,
    ).astype(np.uint8)


def open_mask(file: Path) -> Image.Image:
    """Open a palette image and read its header. Refuse an image without a palette.

    Raises:
        UserError: the image has no palette.
    """
    image = open_image(file)
    if image.mode != "P":
        raise UserError(
            f"mask {file} must be a palette image, got {image.mode}. Take VOC's own, not converted, masks."
        )
    return image


def read_mask(file: Path) -> UInt8[np.ndarray, "height width"]:
    """Return the indices of a palette image.

    Raises:
        UserError: it is missing, broken, without a palette, or has other colours than VOC's.
    """
    with open_mask(file) as image:
        indices = decode(image, file)
        colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if int(used[-1]) >= len(colours) or (colours[used] != palette()[used]).any():
        raise UserError(
            f"mask {file} must have VOC's palette, got another, whose indices may mean other objects. "
            "Download it anew."
        )
    return indices


def combine_maps(
    objects: UInt8[np.ndarray, "height width"],
    classes: UInt8[np.ndarray, "rows columns"],
    object_classes: Int64[np.ndarray, " object"] | None,
    where: str,
) -> LabelsAndClasses:
    """Combine object map and class map. A pixel that is void in one of them is void; ids have no gaps.

    Args:
        objects: 0 background, 255 void.
        classes: likewise.
        object_classes: the class of each object, object 1 first; None takes the class of most of its pixels.
        where: names the image in messages.

    Raises:
        UserError: no object, an object without a class of VOC's, or maps that differ in size or content.
    """
    if objects.shape != classes.shape:
        raise UserError(
            f"{where}: object and class mask must have one size, got {format_size(objects)} and "
            f"{format_size(classes)} (height x width). Download them anew."
        )
    void = (objects == VOID_IN_FILES) | (classes == VOID_IN_FILES)
    ids = np.unique(objects[(objects > BACKGROUND) & (objects != VOID_IN_FILES)])
    if not len(ids) and not void.any():
        raise UserError(f"{where}: the masks must hold an object, got none. Download them anew.")
    lookup = np.zeros(256, dtype=np.int64)
    for number in ids.tolist():
        votes = np.bincount(classes[(objects == number) & ~void], minlength=1)
        lookup[number] = votes.argmax() if object_classes is None else object_classes[number - 1]
        if not votes.any() or not 1 <= lookup[number] <= len(CATEGORIES):
            raise UserError(
                f"{where}: object {number} must have a class from 1 to {len(CATEGORIES)}, "
                f"got {lookup[number] if votes.any() else 'void'}. Download the masks anew."
            )
    differ = (lookup[objects] != classes) & ~void
    if differ.sum() > DISAGREEMENT * (~void).sum():
        raise UserError(
            f"{where}: object and class mask must agree, got {differ.sum()} of {(~void).sum()} pixels that "
            "differ. Check that they belong to one image."
        )
    labels = np.where(void | differ, VOID, objects.astype(np.int64))
    kept = np.unique(labels[labels > BACKGROUND])
    if len(kept) < len(ids):
        lost = min(set(ids.tolist()) - set(kept.tolist()))
        raise UserError(
            f"{where}: object {lost} must overlap its class in the class mask, got no such pixel. "
            "Download the masks anew."
        )
    return renumber(labels), lookup[kept]


def format_size(pixels: np.ndarray) -> str:
    """Return "height x width"."""
    return f"{pixels.shape[0]} x {pixels.shape[1]}"


def check_headers(picture: Path, mask: Path) -> None:
    """Check that a mask has a palette and its image's size. Only headers are read."""
    with open_mask(mask) as indices:
        read_header(picture).turn(picture, (indices.height, indices.width), f"its mask {mask}")
