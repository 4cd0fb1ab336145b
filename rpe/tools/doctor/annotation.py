"""Summarise a split's annotations, and find suspicious ones."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rpe.rle import compress, mask_area, pairwise_iou
from rpe.structures import Truth

SIZE_LIMITS = (32, 96)
"""Sides in pixels of the squares that separate COCO's small, medium and large objects."""

TWIN_IOU = 0.9
"""IoU from which two masks of an image count as one object drawn twice."""

AREA_FACTOR = 2.0
"""Factor by which an area field may differ from its mask; COCO's own polygons stay well below."""


class Part(NamedTuple):
    """A part of the page: its rows, and lines on what to look at."""

    rows: dict[str, str]
    findings: list[str]


def summarise_range(values: Sequence[float] | np.ndarray) -> str:
    """Return minimum, median and maximum."""
    return (
        " / ".join(f"{value:,.0f}" for value in np.percentile(values, (0, 50, 100))) if len(values) else "-"
    )


def report_some(things: Iterable[Any], what: str) -> list[str]:
    """Return a line that counts things and names three; an empty list without any."""
    found = [str(thing) for thing in things]
    return (
        [f"{len(found):,} {what}: {', '.join(found[:3])}{' ..' if len(found) > 3 else ''}"] if found else []
    )


def examine_annotations(truth: Truth) -> Part:
    """Return the metrics of a truth in COCO's format."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    objects = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    masks = [compress(entry["segmentation"], sizes[entry["image_id"]]) for entry in objects]
    areas = np.array([mask_area(mask) for mask in masks], dtype=np.int64)
    held = Counter(entry["image_id"] for entry in objects)
    counts = [held[image] for image in sizes]
    classes = np.bincount(np.searchsorted(np.square(SIZE_LIMITS), areas, side="right"), minlength=3)
    crowds = sum(entry["iscrowd"] and not entry.get("void", False) for entry in truth["annotations"])
    rows = {
        "images": f"{len(sizes):,}",
        ".. without an object": f"{counts.count(0):,}",
        "height (least / median / most)": summarise_range([height for height, _ in sizes.values()]),
        "width": summarise_range([width for _, width in sizes.values()]),
        "objects": f"{len(objects):,}",
        ".. an image": summarise_range(counts),
        ".. area in pixels": summarise_range(areas),
        ".. small / medium / large": " / ".join(f"{count / max(1, len(areas)):.0%}" for count in classes),
        "crowds": f"{crowds:,}",
    }
    return Part(rows, find_suspects(truth, objects, masks, areas))


def find_suspects(
    truth: Truth, objects: list[dict[str, Any]], masks: list[Any], areas: np.ndarray
) -> list[str]:
    """Return a line for each kind of annotation that is rarely intended."""
    fields = np.array([entry["area"] for entry in objects], dtype=np.float64)
    far = np.abs(fields - areas) > 9
    far &= (fields > AREA_FACTOR * areas) | (areas > AREA_FACTOR * fields)
    names = Counter(category["name"] for category in truth["categories"])
    used = {entry["category_id"] for entry in truth["annotations"]}
    return [
        *report_some(
            (objects[place]["id"] for place in np.flatnonzero(far)),
            "annotations whose area field is far from their mask",
        ),
        *report_some((objects[place]["id"] for place in np.flatnonzero(areas == 0)), "masks without a pixel"),
        *report_some(
            find_twins(objects, masks),
            f"pairs of masks in an image with IoU {TWIN_IOU:g} or more (drawn twice?)",
        ),
        *report_some(
            (name for name, count in names.items() if count > 1), "names that several categories bear"
        ),
        *report_some(
            (entry["name"] for entry in truth["categories"] if entry["id"] not in used),
            "categories without an object",
        ),
    ]


def find_twins(objects: list[dict[str, Any]], masks: list[Any]) -> list[str]:
    """Return the pairs of annotations that cover nearly the same pixels of an image."""
    by_image: dict[int, list[int]] = {}
    for place, entry in enumerate(objects):
        by_image.setdefault(entry["image_id"], []).append(place)
    found = []
    for image, places in by_image.items():
        mine = [masks[place] for place in places]
        overlap = np.triu(pairwise_iou(mine, mine), 1)
        found += [
            f"{objects[places[one]]['id']} and {objects[places[other]]['id']} (image {image})"
            for one, other in np.argwhere(overlap >= TWIN_IOU)
        ]
    return found


def list_categories(truths: dict[str, Truth]) -> list[str]:
    """Return a line for each category with its objects in each split, the most frequent first."""
    known = {entry["id"]: entry["name"] for truth in truths.values() for entry in truth["categories"]}
    counts = {
        split: Counter(entry["category_id"] for entry in truth["annotations"] if not entry["iscrowd"])
        for split, truth in truths.items()
    }
    order = sorted(known, key=lambda number: -sum(count[number] for count in counts.values()))
    return [
        f"{known[number]}: {' / '.join(f'{count[number]:,}' for count in counts.values())}"
        for number in order
    ]
