"""A COCO results file against the truth that it is for: what would be dropped, mistaken or trip a scorer is refused."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from rpe.metric.run_length import Stretches, compressed, parse
from rpe.structures import UserError

KEYS = ("image_id", "segmentation", "score")

PORTION = 1000
"""Masks that are parsed at a time: all at once would fill the memory and be ten times slower."""


def check_results(truth: dict[str, Any], results: Any) -> None:
    """Refuse what is wrong with a results file, its masks included.

    Raises:
        UserError: naming the row.
    """
    check_rows(truth, results)
    for start in range(0, len(results), PORTION):
        read_masks(results, range(start, min(start + PORTION, len(results))))


def check_rows(truth: dict[str, Any], results: Any) -> None:
    """Refuse all but the masks' counts, which `read_masks` looks at.

    Raises:
        UserError: naming the first row whose key, image, category, score or mask's size is missing or wrong, or that comes twice.
    """
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    if not isinstance(results, list):
        raise UserError(
            "a results file holds a list of {image_id, category_id, segmentation, score}, not "
            + type(results).__name__
        )
    categories = known_categories(truth)
    if looks_sound(results, sizes, categories):
        return
    seen: dict[tuple[Any, ...], int] = {}
    for row, result in enumerate(results):
        check_row(row, result, sizes)
        check_category(row, result, categories)
        counts = result["segmentation"]["counts"]
        key = (
            result["image_id"],
            result.get("category_id"),
            result["score"],
            counts if isinstance(counts, str) else json.dumps(counts),
        )
        if seen.setdefault(key, row) != row:
            raise UserError(
                f"result {row} is result {seen[key]} again (image {result['image_id']}): are files joined that share rows?"
            )


def looks_sound(results: list[Any], sizes: dict[int, list[int]], categories: set[int]) -> bool:
    """Whether nothing can be wrong with any row, by columns: several times as fast as row by row, which then names what is wrong, or finds nothing."""
    if not only_of(results, dict) or not all(key in row for row in results for key in KEYS):
        return False
    images, masks, scores = ([row[key] for row in results] for key in KEYS)
    if (
        not (only_of(images, int) and only_of(scores, int, float) and only_of(masks, dict))
        or not set(images) <= sizes.keys()
    ):
        return False
    counts = [mask.get("counts") for mask in masks]
    named = [row["category_id"] for row in results if "category_id" in row]
    return (
        only_of(counts, str)
        and [mask.get("size") for mask in masks] == [sizes[image] for image in images]
        and only_of([length for mask in masks for length in mask["size"]], int)
        and all(-1e300 < score < 1e300 for score in scores)
        and (only_of(named, int) and (not categories or set(named) <= categories))
        # the same mask twice in an image is none of ours to judge unless all else is the same too; then the rows are looked at one by one
        and len(set(zip(images, counts, strict=True))) == len(results)
    )


def only_of(values: list[Any], *types: type) -> bool:
    """Whether all are of these very types."""
    return set(map(type, values)) <= set(types)


def is_id(value: Any) -> bool:
    """Whether a value is a whole number, 1.0 as data frames write it one of them, but not `true`, which Python counts as 1."""
    return (type(value) is int or (isinstance(value, float) and value.is_integer())) and abs(value) < 2**63


def shown(value: Any) -> str:
    """Return a value as JSON has it, text in its quotes, cut where it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:80]} .."


def check_row(row: int, result: Any, sizes: dict[int, list[int]]) -> None:
    """Refuse a row whose keys, image, score or mask's size are wrong."""
    if not isinstance(result, dict):
        raise UserError(
            f"result {row} is {shown(result)}: each row is {{image_id, category_id, segmentation, score}}"
        )
    for key in KEYS:
        if key not in result:
            raise UserError(
                f"result {row} has no {key}: each row is {{image_id, category_id, segmentation, score}}"
            )
    image, score, mask = result["image_id"], result["score"], result["segmentation"]
    if not is_id(image):
        raise UserError(
            f"result {row} has the image_id {shown(image)}: a whole number is wanted, the id of an image of the truth"
        )
    if image not in sizes:
        raise UserError(
            f"result {row} names image {image}, which the truth does not hold: is this another split's file?"
        )
    if type(score) not in (int, float) or not -1e300 < score < 1e300:
        raise UserError(
            f"result {row} (image {image}) has the score {shown(score)}: a finite number ranks it"
        )
    if isinstance(mask, list):
        raise UserError(
            f"result {row} (image {image}) has no run-length mask but {shown(mask)}: segmentation holds size and counts, not polygons"
        )
    if (
        not isinstance(mask, dict)
        or not isinstance(mask.get("size"), list)
        or not isinstance(mask.get("counts"), str | list)
    ):
        raise UserError(
            f"result {row} (image {image}) has no run-length mask: segmentation holds size and counts"
        )
    if mask["size"] != sizes[image] or not all(type(length) is int for length in mask["size"]):
        raise UserError(
            f"result {row} has a mask of size {mask['size']}, but image {image} is {sizes[image]} (height, width)"
        )


def check_category(row: int, result: dict[str, Any], known: set[int]) -> None:
    """Refuse a category that the truth does not know, whose masks others drop without a word; a row may have none at all."""
    category = result.get("category_id")
    if "category_id" in result and (not is_id(category) or (known and category not in known)):
        form = "" if is_id(category) else " (whole numbers, without quotes)"
        raise UserError(
            f"result {row} (image {result['image_id']}) has the category {shown(category)}, which the truth does not list: "
            f"it lists {', '.join(map(str, sorted(known)[:5]))} ..{form}; masks of no category may have any of them, or no category_id"
        )


def categories_of(truth: dict[str, Any], results: list[dict[str, Any]]) -> Int64[np.ndarray, " result"]:
    """The category of each row that `check_rows` let pass; a row without one has the first that is known."""
    first = min(known_categories(truth), default=1)
    return np.array([result.get("category_id", first) for result in results], dtype=np.int64)


def known_categories(truth: dict[str, Any]) -> set[int]:
    """All category ids that the truth lists or uses."""
    return {category["id"] for category in truth["categories"]} | {
        annotation["category_id"] for annotation in truth["annotations"]
    }


def read_masks(results: list[dict[str, Any]], rows: Sequence[int]) -> Stretches:
    """The masks of some rows that `check_rows` let pass.

    Raises:
        UserError: counts that are no code, or do not fill their image.
    """
    codes = [text_of(row, results[row]["segmentation"]) for row in rows]
    try:
        masks = parse(codes)
    except UserError as error:
        number, why = str(error).removeprefix("mask ").split(": ")
        row = rows[int(number)]
        raise UserError(f"result {row} (image {results[row]['image_id']}) has a broken mask: {why}") from None
    wanted = np.array([math.prod(results[row]["segmentation"]["size"]) for row in rows], dtype=np.int64)
    wrong = np.nonzero(masks.pixels != wanted)[0]
    if len(wrong):
        row = rows[int(wrong[0])]
        where = f"result {row} (image {results[row]['image_id']})"
        raise UserError(
            f"{where} has a broken mask: its counts add up to {masks.pixels[wrong[0]]} pixels, its image has {wanted[wrong[0]]}"
        )
    return masks


def text_of(row: int, mask: dict[str, Any]) -> str:
    """A mask's counts, compressed."""
    counts = mask["counts"]
    if isinstance(counts, str):
        return counts
    if not whole_numbers(counts) or sum(counts) != math.prod(mask["size"]):
        raise UserError(
            f"result {row} has a broken mask: its counts are no whole numbers from 0 on that add up to {math.prod(mask['size'])} pixels"
        )
    text: str = compressed(mask, mask["size"])["counts"]
    return text


def whole_numbers(counts: Sequence[Any]) -> bool:
    """Whether all are integers from 0 on."""
    return all(type(count) is int and count >= 0 for count in counts)
