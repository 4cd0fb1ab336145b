"""What training and evaluation rely on in annotations of COCO's format, checked with one clear line each."""

import math
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rpe.data.module import normal_name
from rpe.errors import note
from rpe.structures import RunLength, UserError

BEYOND = 0.1
"""A polygon may reach beyond its image by this share of the image's longer side, as tools draw over the border; what lies there is cut off."""

MASKS_DRAWN = 20_000
"""Up to so many masks are all drawn before training starts, to see whether they hold a pixel; beyond, the small ones."""

SMALL = 4.0
"""Pixels of area below which a mask may round to nothing."""

SAMPLED = 2_000
"""Of more masks than `MASKS_DRAWN`, so many are drawn besides the small ones, to compare the `area` field with them."""

FAR_SHARE = 0.01
"""Share of the drawn masks whose `area` field may be far from their pixels before a line says so: COCO itself has a few."""

MOST_PIXELS = 2**31
"""Of an image: run lengths count with 32 bits."""

LARGEST_ID = 2**63
"""Ids are kept in 64 bits."""

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
            raise UserError(
                f"annotation file {file} names {what} id twice: {twice([entry['id'] for entry in truth[key]])}"
            )
    refuse_shared_files(truth["images"], file)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    check_sizes(sizes, file)
    categories = {category["id"] for category in truth["categories"]}
    for annotation in truth["annotations"]:
        where = f"annotation {annotation['id']} in {file}"
        check_numbers(annotation, where)
        if annotation["image_id"] not in sizes:
            raise UserError(f"{where} names image {annotation['image_id']}, which the file does not list")
        if annotation["category_id"] not in categories:
            raise UserError(
                f"{where} names category {annotation['category_id']}, which the file does not list"
            )
        check_mask(annotation, sizes[annotation["image_id"]], where)


def check_sizes(sizes: Mapping[int, tuple[Any, Any]], file: Path) -> None:
    """Refuse a (height, width) that no image has, by image id."""
    for image_id, size in sizes.items():
        if not all(type(length) is int and length > 0 for length in size):
            raise UserError(
                f"image {image_id} in {file} has the size {short(list(size))}: whole numbers above 0 are wanted"
            )
        if size[0] * size[1] >= MOST_PIXELS:
            raise UserError(
                f"image {image_id} in {file} has the size {list(size)}: {MOST_PIXELS:,} pixels or more fit no mask"
            )


def refuse_shared_files(images: list[Entry], file: Path) -> None:
    """Refuse two entries for one image file: each would hold a part of its objects, and count the others as mistakes.

    Raises:
        UserError: naming both entries.
    """
    first: dict[str, int] = {}
    for image in images:
        name = posixpath.normpath(normal_name(image["file_name"]))
        if first.setdefault(name, image["id"]) != image["id"]:
            raise UserError(
                f"annotation file {file} has two images, {first[name]} and {image['id']}, of one file_name {image['file_name']!r}: "
                "join them to one entry with the annotations of both (were files merged?)"
            )


def refuse_missing(entry: Any, keys: Sequence[str], what: str, file: Path) -> None:
    """Refuse an entry that lacks a key.

    Raises:
        UserError: naming the entry and the key.
    """
    if not isinstance(entry, dict):
        raise UserError(
            f"{what} in {file} is {str(entry)[:100]}: a set of keys is wanted, with {', '.join(keys)}"
        )
    missing = [key for key in keys if key not in entry]
    if missing:
        raise UserError(f"{what} in {file} has no {missing[0]}: {str(entry)[:100]}")


def refuse_wrong(entry: Entry, what: str, file: Path) -> None:
    """Refuse an id that is no whole number of 64 bits, or a name that is no text which a file could bear.

    Raises:
        UserError: naming the entry.
    """
    for key in ("id", "image_id", "category_id"):
        if key in entry and type(entry[key]) is not int:
            raise UserError(
                f"{what} in {file} has the {key} {short(entry[key])}: a whole number is wanted: {str(entry)[:100]}"
            )
        if key in entry and not -LARGEST_ID <= entry[key] < LARGEST_ID:
            raise UserError(
                f"{what} in {file} has the {key} {str(entry[key])[:30]}: a whole number of at most 64 bits is wanted"
            )
    for key in ("file_name", "name"):
        if key in entry and not (isinstance(entry[key], str) and entry[key]):
            raise UserError(
                f"{what} in {file} has the {key} {short(entry[key])}: text is wanted: {str(entry)[:100]}"
            )
        # half of a surrogate pair, as JSON escapes allow, is no character
        if key in entry and (
            "\0" in entry[key]
            or (not entry[key].isascii() and any("\ud800" <= letter <= "\udfff" for letter in entry[key]))
        ):
            raise UserError(
                f"{what} in {file} has the {key} {ascii(entry[key])[:60]}: it holds what is no character"
            )


def check_numbers(annotation: Entry, where: str) -> None:
    """Refuse an area that no mask has, and a crowd that is neither one nor none."""
    area, crowd = annotation["area"], annotation.get("iscrowd", 0)
    if not isinstance(area, int | float) or isinstance(area, bool) or not 0 <= area < 1e18:
        raise UserError(
            f"{where} has the area {short(area)}: a number of pixels from 0 on is wanted, as recall by size goes by it"
        )
    if crowd not in (0, 1):
        raise UserError(f"{where} has iscrowd {short(crowd)}: 0 (an object) or 1 (a crowd) is wanted")


def short(value: Any) -> str:
    """Return a value as Python writes it, text in its quotes, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} .."


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
        check_nesting(code, where)
        for number, ring in enumerate(code, start=1):
            check_ring(
                ring, size, where, "its polygon" if len(code) == 1 else f"its polygon {number} of {len(code)}"
            )
    elif not isinstance(code, dict):
        raise UserError(
            f"{where} has the segmentation {str(code)[:60]!r}: a list of polygons or a run-length mask is wanted"
        )
    elif not {"size", "counts"} <= code.keys():
        raise UserError(f"{where} has a run-length mask without size or counts")
    elif code["size"] != list(size) or not all(type(length) is int for length in code["size"]):
        raise UserError(
            f"{where} has a mask of size {short(code['size'])}, but its image {annotation['image_id']} is {list(size)} (height, width)"
        )
    elif pixels_of(code["counts"]) != size[0] * size[1]:
        # pycocotools would fill what the runs do not reach with whatever lies in memory
        raise UserError(
            f"{where} has a run-length mask whose counts are not those of {size[0]} x {size[1]} pixels: it is damaged"
        )


def is_number(value: Any) -> bool:
    """Whether a value is a number as JSON has them."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_nesting(code: list[Any], where: str) -> None:
    """Refuse corners that are not in a list of polygons, each one flat list.

    Raises:
        UserError: naming how they are nested.
    """
    if is_number(code[0]):
        raise UserError(
            f"{where} has the segmentation {str(code)[:40]} ..: it is one flat list, write a list of polygons, [[x, y, x, y, ..]]"
        )
    if len(code) > 1 and all(
        isinstance(ring, list) and len(ring) == 2 and all(map(is_number, ring)) for ring in code
    ):
        raise UserError(
            f"{where} has the segmentation {str(code)[:40]} ..: it is a list of corner pairs, write [[x, y, x, y, ..]]"
        )


def check_ring(ring: Any, size: tuple[int, int], where: str, which: str = "its polygon") -> None:
    """Refuse a polygon with too few or wrong corners, or outside its image; `which` names it."""
    if not isinstance(ring, list):
        raise UserError(f"{where} has no list of numbers: {which} is {str(ring)[:60]!r}")
    if any(isinstance(corner, list | dict) for corner in ring[:1]):
        raise UserError(
            f"{where} has pairs or lists within a polygon: {which} is {str(ring)[:40]} .., write x, y, x, y, .. in one flat list"
        )
    if len(ring) % 2:
        raise UserError(
            f"{where} has a polygon with an odd count of numbers: {which} has {len(ring)}, x and y in turns are wanted"
        )
    if len(ring) < 6:
        raise UserError(
            f"{where} has a polygon of fewer than three corners: {which} has {len(ring) // 2}{' (a box?)' if len(ring) == 4 else ''}"
        )
    try:
        low, high, total = min(ring), max(ring), math.fsum(ring)
    except (TypeError, OverflowError):
        low = high = total = math.nan
    if not math.isfinite(total):
        wrong = [value for value in ring if not is_number(value) or not abs(value) < 1e18][:1]
        raise UserError(
            f"{where} has a polygon with a corner that is no number: {which} holds {str(wrong[0] if wrong else total)[:60]!r}"
        )
    if low >= 0 and high <= min(size):
        return  # nearly all of them: this is run a million times
    height, width = size
    margin = BEYOND * max(size)
    for name, values, length in (("x", ring[0::2], width), ("y", ring[1::2], height)):
        low, high = min(values), max(values)
        if high < 0 or low > length or low < -margin or high > length + margin:
            raise UserError(
                f"{where} lies outside its image: {which} spans {name} {low:g} to {high:g}, the image 0 to {length}; is it of another size?"
            )


def pixels_of(counts: Any) -> int:
    """How many pixels run lengths cover, compressed or not; -1 for what are none."""
    if isinstance(counts, list):
        return sum(counts) if all(type(count) is int and count >= 0 for count in counts) else -1
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


def drawn_areas(truth: Entry) -> dict[int, int]:
    """Return the pixels of masks by their place in the list: of all, or where there are many, of the small ones and an even sample."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    annotations = truth["annotations"]
    count = len(annotations)
    places = set(range(0, count, 1 if count <= MASKS_DRAWN else -(-count // SAMPLED)))
    places |= {
        place
        for place, annotation in enumerate(annotations)
        if annotation["area"] < SMALL and count > MASKS_DRAWN
    }
    return {
        place: int(
            coco_mask.area(
                run_length_of(annotations[place]["segmentation"], *sizes[annotations[place]["image_id"]])
            )
        )
        for place in sorted(places)
    }


def refuse_empty(truth: Entry, file: Path, areas: Mapping[int, int]) -> None:
    """Refuse a mask without a pixel, of those that `drawn_areas` drew.

    Raises:
        UserError: naming the annotation.
    """
    for place, pixels in areas.items():
        if not pixels:
            annotation = truth["annotations"][place]
            raise empty(annotation["id"], file, is_flat(annotation["segmentation"]))


def tell_areas(truth: Entry, file: Path, areas: Mapping[int, int]) -> None:
    """Print one line where the `area` field is a placeholder, or far from the masks' own pixels: recall by size goes by it."""
    drawn = [
        (truth["annotations"][place], pixels)
        for place, pixels in areas.items()
        if not truth["annotations"][place]["iscrowd"]
    ]
    consequence = "AR by size (small, medium, large) goes by the field; what lies on top goes by the masks"
    far = [(one, pixels) for one, pixels in drawn if is_far(one["area"], pixels)]
    if drawn and len(far) >= FAR_SHARE * len(drawn) and far:
        one, pixels = far[0]
        among = f"{len(far):,} of {len(drawn):,} masks of {file}"
        note(
            f"the field area is far from the pixels of {among} (annotation {one['id']}: {one['area']:g}, its mask {pixels:,}): {consequence}"
        )
    elif len({one["area"] for one, _ in drawn}) == 1 and max(pixels for _, pixels in drawn) > 1.5 * min(
        pixels for _, pixels in drawn
    ):
        note(
            f"the field area is {drawn[0][0]['area']:g} in all of {file}, whose masks differ in size: {consequence}"
        )


def is_far(area: float, pixels: int) -> bool:
    """Whether an `area` field cannot be a mask's: half or twice its pixels, but for the border of a thin or small polygon."""
    return max(area, pixels) > 2 * min(area, pixels) and abs(area - pixels) > 16


def is_flat(segmentation: Any) -> bool:
    """Whether the corners of each polygon lie on a line."""
    if not isinstance(segmentation, list):
        return False
    corners = [np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in segmentation]
    return all(np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2 for points in corners)


def empty(number: int, file: Path, flat: bool = False) -> UserError:
    """What is said of a mask without a pixel; `flat` says that it is of polygons whose corners lie on a line."""
    reason = "; all corners of its polygons lie on a line" if flat else ""
    return UserError(
        f"annotation {number} in {file} has a mask without a pixel: mend or remove it, or data.empty_masks=skip trains without such (COCO has two){reason}"
    )
