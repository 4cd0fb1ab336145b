"""Count what a split's annotations hold, and find what a person should look at."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from rpe.data.annotation_check import run_length_of
from rpe.data.module import Truth

SIDES = (32, 96)
"""Where COCO's small and medium objects end: squares of so many pixels a side."""

NEAR = 0.9
"""From this IoU on, two masks of an image are taken for one object drawn twice."""

FAR = 2.0
"""Factor by which an area field may differ from its mask; COCO's own polygons stay well below."""


class Part(NamedTuple):
    """A part of the page: its rows, and lines on what to look at."""

    rows: dict[str, str]
    findings: list[str]


def three(values: Sequence[float] | np.ndarray) -> str:
    """Return least, median and most."""
    return (
        " / ".join(f"{value:,.0f}" for value in np.percentile(values, (0, 50, 100))) if len(values) else "-"
    )


def some(things: Iterable[Any], what: str) -> list[str]:
    """Return a line that counts things and names three; none without any."""
    found = [str(thing) for thing in things]
    return (
        [f"{len(found):,} {what}: {', '.join(found[:3])}{' ..' if len(found) > 3 else ''}"] if found else []
    )


def examine_annotations(truth: Truth) -> Part:
    """Return the figures of a truth in COCO's format."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    objects = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    masks = [run_length_of(entry["segmentation"], *sizes[entry["image_id"]]) for entry in objects]
    areas = np.array([int(coco_mask.area(mask)) for mask in masks], dtype=np.int64)  # of a list, 255 at most
    held = Counter(entry["image_id"] for entry in objects)
    counts = [held[image] for image in sizes]
    classes = np.bincount(np.searchsorted(np.square(SIDES), areas, side="right"), minlength=3)
    crowds = sum(entry["iscrowd"] and not entry.get("void", False) for entry in truth["annotations"])
    rows = {
        "images": f"{len(sizes):,}",
        ".. without an object": f"{counts.count(0):,}",
        "height (least / median / most)": three([height for height, _ in sizes.values()]),
        "width": three([width for _, width in sizes.values()]),
        "objects": f"{len(objects):,}",
        ".. an image": three(counts),
        ".. area in pixels": three(areas),
        ".. small / medium / large": " / ".join(f"{count / max(1, len(areas)):.0%}" for count in classes),
        "crowds": f"{crowds:,}",
    }
    return Part(rows, look_at(truth, objects, masks, areas))


def look_at(truth: Truth, objects: list[dict[str, Any]], masks: list[Any], areas: np.ndarray) -> list[str]:
    """Return a line for each kind of annotation that is rarely meant."""
    fields = np.array([entry["area"] for entry in objects], dtype=np.float64)
    far = np.abs(fields - areas) > 9
    far &= (fields > FAR * areas) | (areas > FAR * fields)
    names = Counter(category["name"] for category in truth["categories"])
    used = {entry["category_id"] for entry in truth["annotations"]}
    return [
        *some(
            (objects[place]["id"] for place in np.flatnonzero(far)),
            "annotations whose area field is far from their mask",
        ),
        *some((objects[place]["id"] for place in np.flatnonzero(areas == 0)), "masks without a pixel"),
        *some(twins(objects, masks), f"pairs of masks in an image with IoU {NEAR:g} or more (drawn twice?)"),
        *some((name for name, count in names.items() if count > 1), "names that several categories bear"),
        *some(
            (entry["name"] for entry in truth["categories"] if entry["id"] not in used),
            "categories without an object",
        ),
    ]


def twins(objects: list[dict[str, Any]], masks: list[Any]) -> list[str]:
    """Return the pairs of annotations that cover the same pixels of an image, or nearly so."""
    by_image: dict[int, list[int]] = {}
    for place, entry in enumerate(objects):
        by_image.setdefault(entry["image_id"], []).append(place)
    found = []
    for image, places in by_image.items():
        mine = [masks[place] for place in places]
        overlap = np.triu(coco_mask.iou(mine, mine, [0] * len(mine)), 1)
        found += [
            f"{objects[places[one]]['id']} and {objects[places[other]]['id']} (image {image})"
            for one, other in np.argwhere(overlap >= NEAR)
        ]
    return found


def categories_of(truths: dict[str, Truth]) -> list[str]:
    """Return a line a category with its objects in each split, the most frequent first."""
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
