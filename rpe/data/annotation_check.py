"""Check COCO annotations for training and evaluation. Each error is one line that names the entry."""

import math
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpe.data.module import normal_name
from rpe.errors import UserError, note
from rpe.rle import compress, count_pixels, mask_area

MAX_OVERHANG = 0.1
"""Largest extent of a polygon beyond its image, as a fraction of the longer side. The image cuts it off."""

MAX_DECODED_MASKS = 20_000
"""Up to this many masks are all decoded before training, to find empty ones. Of more, the small ones are."""

SMALL = 4.0
"""Masks below this area in pixels may round to nothing."""

SAMPLE_SIZE = 2_000
"""About this many of more masks are decoded besides the small ones, to compare their `area` field."""

WRONG_AREA_FRACTION = 0.01
"""Fraction of decoded masks with a wrong `area` field from which a line is printed. COCO itself has a few."""

MAX_PIXELS = 2**31
"""Images must have fewer pixels, as run lengths count with 32 bits."""

ID_LIMIT = 2**63
"""Ids must be below it, as they are kept in 64 bits."""

Entry = dict[str, Any]


def check_truth(truth: Entry, file: Path) -> None:
    """Check that entries are complete, unique and refer to each other, and that masks fit their images.

    Raises:
        UserError: naming the first wrong entry.
    """
    for key, what, wanted in (
        ("images", "an image", ("id", "height", "width", "file_name")),
        ("categories", "a category", ("id", "name")),
        ("annotations", "an annotation", ("id", "image_id", "category_id", "area")),
    ):
        if not isinstance(truth[key], list):
            raise UserError(
                f"{key} in {file} must be a list, got one {type(truth[key]).__name__}. "
                "Export it in COCO's instance format."
            )
        for entry in truth[key]:
            refuse_missing(entry, wanted, what, file)
            check_types(entry, what, file)
        if len({entry["id"] for entry in truth[key]}) < len(truth[key]):
            duplicate = find_duplicate([entry["id"] for entry in truth[key]])
            raise UserError(
                f"{what} in {file} must have an id of its own, got {duplicate} twice. Renumber one."
            )
    refuse_shared_files(truth["images"], file)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    check_sizes(sizes, file)
    known_ids = (("image_id", sizes), ("category_id", {category["id"] for category in truth["categories"]}))
    for annotation in truth["annotations"]:
        where = f"annotation {annotation['id']} in {file}"
        check_numbers(annotation, where)
        for key, known in known_ids:
            if annotation[key] not in known:
                raise UserError(
                    f"{where} must have {key} of a listed {key.removesuffix('_id')}, got {annotation[key]}. "
                    "List it, or remove the annotation."
                )
        check_mask(annotation, sizes[annotation["image_id"]], where)


def check_sizes(sizes: Mapping[int, tuple[Any, Any]], file: Path) -> None:
    """Check each image's (height, width), given by image id.

    Raises:
        UserError: a length is not an integer > 0, or the image is too large.
    """
    for image_id, size in sizes.items():
        if not all(type(length) is int and length > 0 for length in size):
            raise UserError(
                f"image {image_id} in {file} must have height and width as integers > 0, "
                f"got {shorten(list(size))}. Correct them."
            )
        if size[0] * size[1] >= MAX_PIXELS:
            raise UserError(
                f"image {image_id} in {file} must have fewer than {MAX_PIXELS:,} pixels, got {list(size)}. "
                "Correct its height and width, or cut it."
            )


def refuse_shared_files(images: list[Entry], file: Path) -> None:
    """Refuse two entries for one image file. Each would count the other's objects as mistakes.

    Raises:
        UserError: naming both entries.
    """
    first: dict[str, int] = {}
    for image in images:
        name = posixpath.normpath(normal_name(image["file_name"]))
        if first.setdefault(name, image["id"]) != image["id"]:
            raise UserError(
                f"file_name in {file} must be unique, got {image['file_name']!r} for images {first[name]} "
                f"and {image['id']}. Make them one entry with the annotations of both."
            )


def refuse_missing(entry: Any, keys: Sequence[str], what: str, file: Path) -> None:
    """Check that an entry has these keys.

    Raises:
        UserError: naming the entry and the key.
    """
    if not isinstance(entry, dict):
        raise UserError(
            f"{what} in {file} must be an object with {', '.join(keys)}, got {str(entry)[:100]}. "
            "Export it anew."
        )
    missing = [key for key in keys if key not in entry]
    if missing:
        raise UserError(f"{what} in {file} must have {missing[0]}, got {str(entry)[:100]}. Add it.")


def check_types(entry: Entry, what: str, file: Path) -> None:
    """Check that ids are integers of 64 bits, and names are text that a file system accepts.

    Raises:
        UserError: naming the entry.
    """
    for key in ("id", "image_id", "category_id"):
        if key in entry and type(entry[key]) is not int:
            raise UserError(
                f"{key} of {what} in {file} must be an integer, got {shorten(entry[key])} in "
                f"{str(entry)[:100]}. Correct it."
            )
        if key in entry and not -ID_LIMIT <= entry[key] < ID_LIMIT:
            raise UserError(
                f"{key} of {what} in {file} must be an integer of 64 bits, got {str(entry[key])[:30]}. "
                "Renumber."
            )
    for key in ("file_name", "name"):
        if key in entry and not (isinstance(entry[key], str) and entry[key]):
            raise UserError(
                f"{key} of {what} in {file} must be text, got {shorten(entry[key])} in {str(entry)[:100]}. "
                "Correct it."
            )
        # JSON escapes allow half of a surrogate pair, which is not a character
        if key in entry and (
            "\0" in entry[key]
            or (not entry[key].isascii() and any("\ud800" <= letter <= "\udfff" for letter in entry[key]))
        ):
            raise UserError(
                f"{key} of {what} in {file} must hold characters alone, got {ascii(entry[key])[:60]}. "
                "Rename it."
            )


def check_numbers(annotation: Entry, where: str) -> None:
    """Check that the area is a finite number >= 0, and iscrowd is 0 or 1.

    Raises:
        UserError: one of them is not.
    """
    area, crowd = annotation["area"], annotation.get("iscrowd", 0)
    if not isinstance(area, int | float) or isinstance(area, bool) or not 0 <= area < 1e18:
        raise UserError(
            f"{where} must have an area >= 0 in pixels, got {shorten(area)}. "
            "Correct it, as recall by size uses it."
        )
    if crowd not in (0, 1):
        raise UserError(
            f"{where} must have iscrowd 0 (an object) or 1 (a crowd), got {shorten(crowd)}. Correct it."
        )


def shorten(value: Any) -> str:
    """Return a value's repr, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} .."


def find_duplicate(values: list[Any]) -> Any:
    """Return the first value that occurs a second time."""
    seen: set[Any] = set()
    return next(one for one in values if one in seen or seen.add(one))  # type: ignore[func-returns-value]


def check_mask(annotation: Entry, size: tuple[int, int], where: str) -> None:
    """Refuse a missing or malformed mask, one outside its image, or one for another image size.

    Raises:
        UserError: the mask is one of these.
    """
    code = annotation.get("segmentation")
    if not code:
        raise UserError(f"{where} must have a segmentation, got none. Export masks, boxes are not enough.")
    if isinstance(code, list):
        check_nesting(code, where)
        for number, ring in enumerate(code, start=1):
            check_ring(ring, size, where, "polygon" if len(code) == 1 else f"polygon {number} of {len(code)}")
    elif not isinstance(code, dict):
        raise UserError(
            f"{where} must have polygons or a run-length mask as segmentation, got {str(code)[:60]!r}. "
            "Export it anew."
        )
    elif not {"size", "counts"} <= code.keys():
        held = ", ".join(map(str, code))[:60]
        raise UserError(
            f"{where} must have a run-length mask of size and counts, got {held}. Export it anew."
        )
    elif code["size"] != list(size) or not all(type(length) is int for length in code["size"]):
        raise UserError(
            f"{where} must have a mask of the size of its image {annotation['image_id']}, {list(size)} "
            f"(height, width), got {shorten(code['size'])}. Export it anew."
        )
    elif count_pixels(code["counts"]) != size[0] * size[1]:
        # pycocotools would fill missing runs with uninitialised memory
        raise UserError(
            f"{where} must have run-length counts of {size[0]} x {size[1]} pixels, got a damaged mask. "
            "Export it anew."
        )


def is_number(value: Any) -> bool:
    """Return whether a value is a JSON number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_nesting(code: list[Any], where: str) -> None:
    """Check that corners are a list of polygons, each a flat list.

    Raises:
        UserError: naming how they are nested.
    """
    if is_number(code[0]):
        raise UserError(
            f"{where} must have a list of polygons as segmentation, got one flat list {str(code)[:40]} .. "
            "Write [[x, y, x, y, ..]]."
        )
    if len(code) > 1 and all(
        isinstance(ring, list) and len(ring) == 2 and all(map(is_number, ring)) for ring in code
    ):
        raise UserError(
            f"{where} must have a list of polygons as segmentation, got a list of corner pairs "
            f"{str(code)[:40]} .. Write [[x, y, x, y, ..]]."
        )


def check_ring(ring: Any, size: tuple[int, int], where: str, which: str = "polygon") -> None:
    """Refuse a polygon with too few or wrong corners, or outside its image. `which` names it in messages.

    Raises:
        UserError: the polygon is one of these.
    """
    if not isinstance(ring, list):
        raise UserError(
            f"{which} of {where} must be a list of numbers, got {str(ring)[:60]!r}. Export it anew."
        )
    if any(isinstance(corner, list | dict) for corner in ring[:1]):
        raise UserError(
            f"{which} of {where} must be one flat list, got {str(ring)[:40]} .. Write [x, y, x, y, ..]."
        )
    if len(ring) % 2:
        raise UserError(
            f"{which} of {where} must be an even count of numbers, got {len(ring)}. Write [x, y, x, y, ..]."
        )
    if len(ring) < 6:
        box = " (a box?)" if len(ring) == 4 else ""
        raise UserError(
            f"{which} of {where} must have 3 or more corners, got {len(ring) // 2}{box}. "
            "Export masks, not boxes."
        )
    try:
        low, high, total = min(ring), max(ring), math.fsum(ring)
    except (TypeError, OverflowError):
        low = high = total = math.nan
    if not math.isfinite(total):
        wrong = [value for value in ring if not is_number(value) or not abs(value) < 1e18][:1]
        raise UserError(
            f"{which} of {where} must hold finite numbers, got {str(wrong[0] if wrong else total)[:60]!r}. "
            "Correct it."
        )
    if low >= 0 and high <= min(size):
        return  # the fast path of nearly all polygons: COCO has about a million
    height, width = size
    margin = MAX_OVERHANG * max(size)
    for name, values, length in (("x", ring[0::2], width), ("y", ring[1::2], height)):
        low, high = min(values), max(values)
        if high < 0 or low > length or low < -margin or high > length + margin:
            raise UserError(
                f"{which} of {where} must lie inside its image, {name} 0 to {length}, "
                f"got {low:g} to {high:g}. Check the image's size."
            )


def measure_areas(truth: Entry) -> dict[int, int]:
    """Return the pixels of masks by their index in the list.

    All masks are decoded, or where there are many, the small ones and an even sample.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    annotations = truth["annotations"]
    count = len(annotations)
    chosen = set(range(0, count, 1 if count <= MAX_DECODED_MASKS else -(-count // SAMPLE_SIZE)))
    chosen |= {
        index
        for index, annotation in enumerate(annotations)
        if annotation["area"] < SMALL and count > MAX_DECODED_MASKS
    }
    areas: dict[int, int] = {}
    for index in sorted(chosen):
        one = annotations[index]
        areas[index] = mask_area(compress(one["segmentation"], sizes[one["image_id"]]))
    return areas


def refuse_empty(truth: Entry, file: Path, areas: Mapping[int, int]) -> None:
    """Refuse a mask without a pixel. `areas` comes from `measure_areas`.

    Raises:
        UserError: naming the annotation.
    """
    for index, pixels in areas.items():
        if not pixels:
            annotation = truth["annotations"][index]
            raise empty_mask_error(annotation["id"], file, is_collinear(annotation["segmentation"]))


def note_wrong_areas(truth: Entry, file: Path, areas: Mapping[int, int]) -> None:
    """Print a line if the `area` field, which recall by size uses, is a placeholder or far from the masks."""
    objects = [
        (truth["annotations"][index], pixels)
        for index, pixels in areas.items()
        if not truth["annotations"][index]["iscrowd"]
    ]
    consequence = "AR by size (small, medium, large) uses the field, the order of overlapping masks does not"
    wrong = [(one, pixels) for one, pixels in objects if is_wrong_area(one["area"], pixels)]
    if wrong and len(wrong) >= WRONG_AREA_FRACTION * len(objects):
        one, pixels = wrong[0]
        note(
            f"the field area is far from the pixels of {len(wrong):,} of {len(objects):,} masks of {file} "
            f"(annotation {one['id']}: {one['area']:g}, its mask {pixels:,}): {consequence}"
        )
    elif len({one["area"] for one, _ in objects}) == 1 and max(pixels for _, pixels in objects) > 1.5 * min(
        pixels for _, pixels in objects
    ):
        note(
            f"the field area is {objects[0][0]['area']:g} in all of {file}, whose masks differ in size: "
            f"{consequence}"
        )


def is_wrong_area(area: float, pixels: int) -> bool:
    """Return whether an `area` field differs from a mask's pixels by a factor of 2 and by more than 16.

    Thin and small polygons differ by their border.
    """
    return max(area, pixels) > 2 * min(area, pixels) and abs(area - pixels) > 16


def is_collinear(segmentation: Any) -> bool:
    """Return whether the corners of each polygon lie on a line."""
    if not isinstance(segmentation, list):
        return False
    corners = [np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in segmentation]
    return all(np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2 for points in corners)


def empty_mask_error(number: int, file: Path, flat: bool = False) -> UserError:
    """Return the error for a mask without a pixel. `flat`: all corners of a polygon lie on a line."""
    reason = " (all corners of its polygons lie on a line)" if flat else ""
    return UserError(
        f"annotation {number} in {file} must have a mask with a pixel, got an empty one{reason}. "
        "Correct or remove it, or set data.empty_masks=skip (COCO has two)."
    )
