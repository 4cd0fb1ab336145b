"""Check a COCO results file against its truth; refuse rows that scorers would drop, misread or fail on."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from rpe.metric.packed_rows import PackedRows
from rpe.rle import MaskRuns, compress, parse
from rpe.structures import UserError

KEYS = ("image_id", "segmentation", "score")

MASKS_AT_ONCE = 1000
"""Masks parsed at a time: all at once would fill the memory and be ten times slower."""


def check_results(truth: dict[str, Any], results: Any) -> None:
    """Check a results file, including its masks.

    Raises:
        UserError: names the first wrong row.
    """
    check_rows(truth, results)
    for start in range(0, len(results), MASKS_AT_ONCE):
        read_masks(results, range(start, min(start + MASKS_AT_ONCE, len(results))))


def check_rows(truth: dict[str, Any], results: Any) -> None:
    """Check everything but the masks' counts, which `read_masks` checks.

    Raises:
        UserError: names the first row with a missing or wrong key, image, category, score or mask size, or
            that repeats an earlier row.
    """
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    if not isinstance(results, list | PackedRows):
        raise UserError(
            "results must be a list of {image_id, category_id, segmentation, score}, "
            f"got {type(results).__name__}. Export them in COCO's results format."
        )
    categories = known_categories(truth)
    if all_rows_valid(results, sizes, categories):
        return
    seen: dict[tuple[Any, ...], int] = {}
    for row, result in enumerate(results):
        check_row(row, result, sizes)
        check_category(row, result, categories)
        first = seen.setdefault(row_key(result), row)
        if first != row:
            raise UserError(
                f"result {row} (image {result['image_id']}) must be new, got result {first} again. "
                "Remove rows that joined files share."
            )


def all_rows_valid(results: Sequence[Any], sizes: dict[int, list[int]], categories: set[int]) -> bool:
    """Return True if all rows are certainly valid.

    Checks by columns are several times as fast as row by row. Where False, the rows are checked one by one,
    to name the error or find none.
    """
    keys = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(results), MASKS_AT_ONCE):
        rows = [results[row] for row in range(start, min(start + MASKS_AT_ONCE, len(results)))]
        if not are_valid(rows, sizes, categories):
            return False
        keys.append(np.array([hash(row_key(row)) for row in rows]))
    # rows of equal hash may still differ, which the check row by row finds out
    return len(np.unique(np.concatenate(keys))) == len(results)


def row_key(result: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values that two rows share only where one repeats the other."""
    counts = result["segmentation"]["counts"]
    text = counts if isinstance(counts, str) else json.dumps(counts)
    return result["image_id"], result.get("category_id"), result["score"], text


def are_valid(results: list[Any], sizes: dict[int, list[int]], categories: set[int]) -> bool:
    """Return True if some rows are certainly valid, each for itself; see `all_rows_valid`."""
    if not have_types(results, dict) or not all(key in row for row in results for key in KEYS):
        return False
    images, masks, scores = ([row[key] for row in results] for key in KEYS)
    if (
        not (have_types(images, int) and have_types(scores, int, float) and have_types(masks, dict))
        or not set(images) <= sizes.keys()
    ):
        return False
    counts = [mask.get("counts") for mask in masks]
    named = [row["category_id"] for row in results if "category_id" in row]
    return (
        have_types(counts, str)
        and [mask.get("size") for mask in masks] == [sizes[image] for image in images]
        and have_types([length for mask in masks for length in mask["size"]], int)
        and all(-1e300 < score < 1e300 for score in scores)
        and (have_types(named, int) and (not categories or set(named) <= categories))
    )


def have_types(values: list[Any], *types: type) -> bool:
    """Return whether the types of all values are among `types`, subclasses excluded."""
    return set(map(type, values)) <= set(types)


def is_id(value: Any) -> bool:
    """Return whether a value is an integer id.

    1.0 is one, as data frames write it. `true` is not, although Python counts it as 1.
    """
    return (type(value) is int or (isinstance(value, float) and value.is_integer())) and abs(value) < 2**63


def as_json(value: Any) -> str:
    """Format a value as JSON, cut where it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:80]} .."


def check_row(row: int, result: Any, sizes: dict[int, list[int]]) -> None:
    """Check the keys, image, score and mask size of a row.

    Raises:
        UserError: one of them is missing or wrong.
    """
    if not isinstance(result, dict):
        raise UserError(
            f"result {row} must be {{image_id, category_id, segmentation, score}}, got {as_json(result)}. "
            "Export it in COCO's results format."
        )
    for key in KEYS:
        if key not in result:
            raise UserError(
                f"result {row} must have image_id, segmentation and score, got no {key}. Add it to each row."
            )
    image, score, mask = result["image_id"], result["score"], result["segmentation"]
    if not is_id(image):
        raise UserError(
            f"image_id of result {row} must be an integer, the id of an image, got {as_json(image)}. "
            "Take it from the annotation file."
        )
    if image not in sizes:
        raise UserError(
            f"image_id of result {row} must be an image of the truth, got {image}. "
            "Check that the file is for this split."
        )
    if type(score) not in (int, float) or not -1e300 < score < 1e300:
        raise UserError(
            f"score of result {row} (image {image}) must be a finite number, got {as_json(score)}. "
            "Correct it, or remove the row."
        )
    if (
        not isinstance(mask, dict)
        or not isinstance(mask.get("size"), list)
        or not isinstance(mask.get("counts"), str | list)
    ):
        raise UserError(
            f"segmentation of result {row} (image {image}) must be a run-length {{size, counts}}, "
            f"got {as_json(mask)}. Encode polygons as run lengths."
        )
    if mask["size"] != sizes[image] or not all(type(length) is int for length in mask["size"]):
        raise UserError(
            f"segmentation.size of result {row} must be {sizes[image]}, the size of image {image}, "
            f"got {as_json(mask['size'])}. Encode the mask at that size."
        )


def check_category(row: int, result: dict[str, Any], known: set[int]) -> None:
    """Check that the truth lists the category, as scorers silently drop others; a row may have none.

    Raises:
        UserError: the truth does not list it.
    """
    category = result.get("category_id")
    if "category_id" in result and (not is_id(category) or (known and category not in known)):
        form = "" if is_id(category) else " (integers, without quotes)"
        raise UserError(
            f"category_id of result {row} (image {result['image_id']}) must be listed by the truth: "
            f"{', '.join(map(str, sorted(known)[:5]))} ..{form}, got {as_json(category)}. "
            "Give a mask without a class any listed id, or no category_id."
        )


def read_categories(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> Int64[np.ndarray, " result"]:
    """Return the category of each row that `check_rows` has accepted; by default the first known one."""
    first = min(known_categories(truth), default=1)
    return np.array([result.get("category_id", first) for result in results], dtype=np.int64)


def known_categories(truth: dict[str, Any]) -> set[int]:
    """Return all category ids that the truth lists or uses."""
    return {category["id"] for category in truth["categories"]} | {
        annotation["category_id"] for annotation in truth["annotations"]
    }


def read_masks(results: Sequence[dict[str, Any]], rows: Sequence[int]) -> MaskRuns:
    """Parse the masks of some rows that `check_rows` has accepted.

    Raises:
        UserError: counts that are not a valid code, or do not fill their image.
    """
    codes, wanted = [], np.empty(len(rows), dtype=np.int64)
    for index, row in enumerate(rows):
        mask = results[row]["segmentation"]
        codes.append(compress_counts(row, mask))
        wanted[index] = math.prod(mask["size"])
    try:
        masks = parse(codes)
    except UserError as error:
        number, found = str(error).removeprefix("mask ").split(": ")
        row = rows[int(number)]
        raise UserError(
            f"segmentation.counts of result {row} (image {results[row]['image_id']}) must be a valid "
            f"run-length code, got {found}. Encode the mask anew."
        ) from None
    wrong = np.nonzero(masks.pixels != wanted)[0]
    if len(wrong):
        row = rows[int(wrong[0])]
        raise UserError(
            f"segmentation.counts of result {row} (image {results[row]['image_id']}) must add up to "
            f"{wanted[wrong[0]]} pixels, those of its image, got {masks.pixels[wrong[0]]}. "
            "Encode the mask anew."
        )
    return masks


def compress_counts(row: int, mask: dict[str, Any]) -> str:
    """Return a mask's counts as compressed text.

    Raises:
        UserError: they are not integers >= 0 that fill the mask's size.
    """
    counts = mask["counts"]
    if isinstance(counts, str):
        return counts
    if not are_run_lengths(counts) or sum(counts) != math.prod(mask["size"]):
        raise UserError(
            f"segmentation.counts of result {row} must be integers >= 0 that add up to "
            f"{math.prod(mask['size'])} pixels, got {as_json(counts)}. Encode the mask anew."
        )
    text: str = compress(mask, mask["size"])["counts"]
    return text


def are_run_lengths(counts: Sequence[Any]) -> bool:
    """Return whether all counts are integers >= 0."""
    return all(type(count) is int and count >= 0 for count in counts)
