"""Class-agnostic average recall of ranked masks, as COCO defines it, and in PASCAL VOC's protocol for proposals."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rpe.metric.matching import Pairs, matched_rank
from rpe.metric.reference import reference_table
from rpe.metric.results import categories_of, check_results, check_rows, read_masks
from rpe.metric.run_length import close_masks, compressed, offsets, parse, some_of
from rpe.metric.void import without_void
from rpe.structures import UserError

AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""COCO's ranges of an annotation's own `area`, both ends included."""

COCO_LIMITS = (1, 10, 100, 1000)
"""Masks an image that count, best score first."""

BY_SIZE_AT = (100, 1000)

VOC_LIMITS = (10, 30, 60)

COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)

VOC_THRESHOLDS = np.append(COCO_THRESHOLDS, 1.0)
"""0.5:0.05:1.0; the first ten are COCO's to the last digit, which `linspace(0.5, 1.0, 11)` would not give."""

BACKENDS = ("own", "faster", "pycocotools")
"""This package's matching, faster-coco-eval's, and pycocotools', the reference; all give the same digits."""

Truth = dict[str, Any]
Result = dict[str, Any]
Table = Float[np.ndarray, "threshold area limit"]


def average_recall(truth: Truth, results: list[Result], backend: str = "own") -> dict[str, float]:
    """Mean recall over IoU thresholds of all objects whatever their category; crowds absorb masks and are no objects.

    Pixels that are void (see `known_areas`) are taken out of the masks first; of what is left, every figure is pycocotools'.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file; their category decides between equal scores alone.
        backend: one of `BACKENDS`; the figures are the same.

    Returns:
        COCO's `AR@1 AR@10 AR@100 AR@1000` over IoU 0.5:0.05:0.95, `AR@100-small` .. `AR@1000-large`, and the VOC protocol's `AR_voc@10
        AR_voc@30 AR_voc@60` over 0.5:0.05:1.0, objects and masks paired one to one as COCO does; a range without objects is left out.

    Raises:
        UserError: an unknown backend, or results that `check_results` refuses.
    """
    limits = sorted({*COCO_LIMITS, *VOC_LIMITS})
    table = recall_table(truth, results, VOC_THRESHOLDS, limits, backend)
    ten = len(COCO_THRESHOLDS)
    everything = list(AREAS).index("all")
    figures = {f"AR@{limit}": table[:ten, everything, limits.index(limit)] for limit in COCO_LIMITS}
    for limit in BY_SIZE_AT:
        figures |= {
            f"AR@{limit}-{area}": table[:ten, index, limits.index(limit)]
            for index, area in enumerate(AREAS)
            if area != "all"
        }
    figures |= {f"AR_voc@{limit}": table[:, everything, limits.index(limit)] for limit in VOC_LIMITS}
    return {name: float(values.mean()) for name, values in figures.items() if (values > -1).all()}


def recall_table(
    truth: Truth,
    results: list[Result],
    thresholds: Float[np.ndarray, " threshold"],
    limits: Sequence[int],
    backend: str = "own",
) -> Table:
    """Recall at each IoU threshold, for each of `AREAS`, within each number of masks an image; -1 where there is no object.

    Args:
        truth, results, backend: see `average_recall`.
        thresholds: in (0, 1].
        limits: ascending.

    Raises:
        UserError: an unknown backend, or results that `check_results` refuses.
    """
    if backend not in BACKENDS:
        raise UserError(f"backend {backend!r} is unknown: choose {', '.join(BACKENDS)}")
    if backend != "own":
        check_results(truth, results)
        return reference_table(
            truth, without_void(truth, results), thresholds, list(AREAS.values()), limits, backend
        )
    check_rows(truth, results)
    results = without_void(truth, results)
    objects = ordered_objects(truth)
    areas = np.array([annotation["area"] for annotation in objects], dtype=np.float64)
    counted = np.array([(areas >= least) & (areas <= most) for least, most in AREAS.values()])
    taken = matched_rank(
        overlapping(truth, objects, results, float(thresholds.min()), max(limits)), thresholds, counted
    )
    found = np.stack([((taken < limit) & counted[:, None]).sum(2) for limit in limits], axis=-1)
    there = counted.sum(1)[:, None, None]
    return np.where(there > 0, found / np.maximum(there, 1), -1.0).transpose(1, 0, 2)


def ordered_objects(truth: Truth) -> list[dict[str, Any]]:
    """Annotations that are no crowds in pycocotools' order, by category within an image, which decides between equal overlaps."""
    objects = [annotation for annotation in truth["annotations"] if not annotation.get("iscrowd", 0)]
    return sorted(objects, key=lambda annotation: annotation["category_id"])


def overlapping(
    truth: Truth, objects: list[dict[str, Any]], results: list[Result], least: float, limit: int
) -> Pairs:
    """All pairs of a mask within the limit and an object of its image with an IoU of `least` or more; masks are numbered by image and rank."""
    place = {image["id"]: index for index, image in enumerate(truth["images"])}
    images = np.array([place[result["image_id"]] for result in results], dtype=np.int64)
    scores = np.array([result["score"] for result in results], dtype=np.float64)
    # pycocotools joins the categories' masks one after the other, so that equal scores stand by category, then in the order of the file
    order = np.lexsort((categories_of(truth, results), -scores, images))
    first = offsets(np.bincount(images, minlength=len(place)))
    things: list[list[int]] = [[] for _ in place]
    for number, annotation in enumerate(objects):
        things[place[annotation["image_id"]]].append(number)
    nobody = np.zeros(0, dtype=np.int64)
    parts = [Pairs(nobody, nobody, nobody, np.zeros(0))]
    for image, (start, stop) in enumerate(itertools.pairwise(first.tolist())):
        if start == stop:
            continue
        # those beyond the limit are looked at too, as a broken one is to be refused wherever it stands
        masks = some_of(read_masks(results, order[start:stop].tolist()), 0, limit)
        size = (truth["images"][image]["height"], truth["images"][image]["width"])
        painted = parse(
            [compressed(objects[number]["segmentation"], size)["counts"] for number in things[image]]
        )
        for index, number in enumerate(things[image]):
            close, ious = close_masks(masks, some_of(painted, index, index + 1), least)
            parts.append(Pairs(start + close, close, np.full(len(close), number), ious))
    return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))
