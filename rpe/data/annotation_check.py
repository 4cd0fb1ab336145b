"""What training and evaluation rely on in annotations of COCO's format, checked with one clear line each."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rpe.structures import RunLength, UserError

BEYOND = 0.1
"""A polygon may reach beyond its image by this share of the image's longer side, as tools draw over the border; what lies there is cut off."""

MASKS_DRAWN = 20_000
"""Up to so many masks are all drawn before training starts, to see whether they hold a pixel; beyond, the small ones."""

SMALL = 4.0
"""Pixels of area below which a mask may round to nothing."""

Entry = dict[str, Any]


def run_length_of(segmentation: Any, height: int, width: int) -> RunLength:
    """Polygons, uncompressed or compressed run lengths as compressed run lengths."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def check_truth(truth: Entry, file: Path) -> None:
    """Refuse what is incomplete, comes twice, points to nothing, or lies elsewhere.

    Raises:
        UserError: naming the first entry that is wrong.
    """
    for key, what, wanted in (
        ("images", "an image", ("id", "height", "width", "file_name")),
        ("categories", "a category", ("id", "name")),
        ("annotations", "an annotation", ("id", "image_id", "category_id", "area")),
    ):
        if not isinstance(truth[key], list):
            raise UserError(
                f"annotation file {file} holds no list of {key}, but one {type(truth[key]).__name__}: it is not in COCO's instance format"
            )
        for entry in truth[key]:
            refuse_missing(entry, wanted, what, file)
            refuse_wrong(entry, what, file)
        if len({entry["id"] for entry in truth[key]}) < len(truth[key]):
            raise UserError(f"annotation file {file} names {what} id twice: {twice([entry['id'] for entry in truth[key]])}")
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for image_id, size in sizes.items():
        if not all(isinstance(length, int) and length > 0 for length in size):
            raise UserError(f"image {image_id} in {file} has the size {list(size)}: whole numbers above 0 are wanted")
    categories = {category["id"] for category in truth["categories"]}
    for annotation in truth["annotations"]:
        where = f"annotation {annotation['id']} in {file}"
        check_numbers(annotation, where)
        if annotation["image_id"] not in sizes:
            raise UserError(f"{where} names image {annotation['image_id']}, which the file does not list")
        if annotation["category_id"] not in categories:
            raise UserError(f"{where} names category {annotation['category_id']}, which the file does not list")
        check_mask(annotation, sizes[annotation["image_id"]], where)


def refuse_missing(entry: Any, keys: Sequence[str], what: str, file: Path) -> None:
    """Refuse an entry that lacks a key.

    Raises:
        UserError: naming the entry and the key.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{what} in {file} is {str(entry)[:100]}: a set of keys is wanted, with {', '.join(keys)}")
    missing = [key for key in keys if key not in entry]
    if missing:
        raise UserError(f"{what} in {file} has no {missing[0]}: {str(entry)[:100]}")


def refuse_wrong(entry: Entry, what: str, file: Path) -> None:
    """Refuse an id that is no whole number, or a name that is no text.

    Raises:
        UserError: naming the entry.
    """
    for key in ("id", "image_id", "category_id"):
        if key in entry and type(entry[key]) is not int:
            raise UserError(f"{what} in {file} has the {key} {entry[key]!r}: a whole number is wanted: {str(entry)[:100]}")
    for key in ("file_name", "name"):
        if key in entry and not (isinstance(entry[key], str) and entry[key]):
            raise UserError(f"{what} in {file} has the {key} {entry[key]!r}: text is wanted: {str(entry)[:100]}")


def check_numbers(annotation: Entry, where: str) -> None:
    """Refuse an area that no mask has, and a crowd that is neither one nor none."""
    area, crowd = annotation["area"], annotation.get("iscrowd", 0)
    if not isinstance(area, int | float) or isinstance(area, bool) or not 0 <= area < math.inf:
        raise UserError(f"{where} has the area {area}: a number of pixels from 0 on is wanted, as recall by size goes by it")
    if crowd not in (0, 1):
        raise UserError(f"{where} has iscrowd {crowd!r}: 0 (an object) or 1 (a crowd) is wanted")


def twice(values: list[Any]) -> Any:
    """The first value that came before."""
    seen: set[Any] = set()
    return next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]


def check_mask(annotation: Entry, size: tuple[int, int], where: str) -> None:
    """Refuse a mask that is none, lies elsewhere, or is made for another size."""
    code = annotation.get("segmentation")
    if not code:
        raise UserError(f"{where} has no segmentation: instance masks are needed, boxes are not enough")
    if isinstance(code, list):
        for ring in code:
            check_ring(ring, size, where)
    elif not isinstance(code, dict) or not {"size", "counts"} <= code.keys():
        raise UserError(f"{where} has a run-length mask without size or counts")
    elif tuple(code["size"]) != size:
        raise UserError(f"{where} has a mask of size {list(code['size'])}, but its image {annotation['image_id']} is {list(size)} (height, width)")
    elif pixels_of(code["counts"]) != size[0] * size[1]:
        # pycocotools would fill what the runs do not reach with whatever lies in memory
        raise UserError(f"{where} has a run-length mask whose counts are not those of {size[0]} x {size[1]} pixels: it is damaged")


def check_ring(ring: Any, size: tuple[int, int], where: str) -> None:
    """Refuse a polygon with too few or wrong corners, or outside its image."""
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        raise UserError(f"{where} has a polygon of fewer than three corners")
    try:
        low, high, total = min(ring), max(ring), math.fsum(ring)
    except (TypeError, OverflowError):
        low = high = total = math.nan
    if not math.isfinite(total):
        raise UserError(f"{where} has a polygon with a corner that is no number")
    if low >= 0 and high <= min(size):
        return  # nearly all of them: this is run a million times
    height, width = size
    margin = BEYOND * max(size)
    for name, values, length in (("x", ring[0::2], width), ("y", ring[1::2], height)):
        low, high = min(values), max(values)
        if high < 0 or low > length or low < -margin or high > length + margin:
            raise UserError(
                f"{where} lies outside its image: its polygon spans {name} {low:g} to {high:g}, the image 0 to {length}; is it of another size?"
            )


def pixels_of(counts: Any) -> int:
    """How many pixels run lengths cover, compressed or not; -1 for what are none."""
    if isinstance(counts, list):
        return sum(counts) if all(isinstance(count, int) and count >= 0 for count in counts) else -1
    if not isinstance(counts, str) or not counts.isascii():
        return -1
    # groups of five bits, lowest first; bit 5 says that another follows, bit 4 of the last is the sign (maskApi.c, rleFrString)
    code = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((code & 32) == 0)
    if not len(ends) or ends[-1] != len(code) - 1 or code.min() < 0 or code.max() > 63:
        return -1
    starts = np.concatenate([[0], ends[:-1] + 1])
    bits = 5 * (ends - starts + 1)
    if bits.max() > 60:
        return -1
    place = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((code & 31) << (5 * place), starts) - np.where(code[ends] & 16, 1 << bits, 0)
    # from the fourth on, a run is told as its difference to the last but one
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return int(runs.sum()) if (runs >= 0).all() else -1


def refuse_empty(truth: Entry, file: Path) -> None:
    """Refuse a mask without a pixel; where there are many masks, only the small ones are drawn.

    Raises:
        UserError: naming the annotation.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    all_of_them = len(truth["annotations"]) <= MASKS_DRAWN
    for annotation in truth["annotations"]:
        if (all_of_them or annotation["area"] < SMALL) and not coco_mask.area(
            run_length_of(annotation["segmentation"], *sizes[annotation["image_id"]])
        ):
            raise empty(annotation["id"], file)


def empty(number: int, file: Path) -> UserError:
    """What is said of a mask without a pixel."""
    return UserError(
        f"annotation {number} in {file} has a mask without a pixel: mend or remove it, or data.empty_masks=skip trains without such (COCO has two)"
    )
