"""Compute class-agnostic average recall of ranked masks, by COCO's and PASCAL VOC's protocols."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rpe.metric.matching import Pairs, matched_rank
from rpe.metric.reference import reference_table
from rpe.metric.results import check_results, check_rows, read_categories, read_masks
from rpe.metric.void import remove_void
from rpe.rle import compress, find_close_masks, offsets, parse, slice_masks
from rpe.structures import ResultRow, Truth, UserError

AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""COCO's ranges of an annotation's own `area` in pixels, both ends included."""

COCO_LIMITS = (1, 10, 100, 1000)
"""Numbers of masks per image that count, best score first."""

BY_SIZE_AT = (100, 1000)

VOC_LIMITS = (10, 30, 60)

COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)

VOC_THRESHOLDS = np.append(COCO_THRESHOLDS, 1.0)
"""0.5:0.05:1.0. The first ten equal COCO's to the last digit, unlike those of `linspace(0.5, 1.0, 11)`."""

BACKENDS = ("own", "faster", "pycocotools")
"""This package's matcher, faster-coco-eval, and pycocotools, the reference. All give the same digits."""

RecallTable = Float[np.ndarray, "threshold area limit"]


def average_recall(truth: Truth, results: Sequence[ResultRow], backend: str = "own") -> dict[str, float]:
    """Compute the mean recall over IoU thresholds of all objects, whatever their category.

    Crowds absorb masks and do not count as objects. Void pixels (see `find_known_areas`) are removed from the
    masks first. After that, every metric equals pycocotools'.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file. Their category only orders equal scores.
        backend: one of `BACKENDS`; the metrics are the same.

    Returns:
        COCO's `AR@1 AR@10 AR@100 AR@1000` over IoU 0.5:0.05:0.95, `AR@100-small` .. `AR@1000-large`, and the
            VOC protocol's `AR_voc@10 AR_voc@30 AR_voc@60` over 0.5:0.05:1.0 with COCO's one-to-one matching.
            Area ranges without objects are left out.

    Raises:
        UserError: `backend` is unknown, or `check_results` refuses the results.
    """
    limits = sorted({*COCO_LIMITS, *VOC_LIMITS})
    table = recall_table(truth, results, VOC_THRESHOLDS, limits, backend)
    ten = len(COCO_THRESHOLDS)
    everything = list(AREAS).index("all")
    metrics = {f"AR@{limit}": table[:ten, everything, limits.index(limit)] for limit in COCO_LIMITS}
    for limit in BY_SIZE_AT:
        metrics |= {
            f"AR@{limit}-{area}": table[:ten, index, limits.index(limit)]
            for index, area in enumerate(AREAS)
            if area != "all"
        }
    metrics |= {f"AR_voc@{limit}": table[:, everything, limits.index(limit)] for limit in VOC_LIMITS}
    return {name: float(values.mean()) for name, values in metrics.items() if (values > -1).all()}


def recall_table(
    truth: Truth,
    results: Sequence[ResultRow],
    thresholds: Float[np.ndarray, " threshold"],
    limits: Sequence[int],
    backend: str = "own",
) -> RecallTable:
    """Compute recall per IoU threshold, range of `AREAS` and limit of masks per image; -1 without objects.

    Args:
        truth, results, backend: see `average_recall`.
        thresholds: in (0, 1].
        limits: ascending.

    Raises:
        UserError: `backend` is unknown, or `check_results` refuses the results.
    """
    if backend not in BACKENDS:
        raise UserError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend != "own":
        check_results(truth, results)
        return reference_table(
            truth, remove_void(truth, results), thresholds, list(AREAS.values()), limits, backend
        )
    check_rows(truth, results)
    results = remove_void(truth, results)
    objects = sort_objects(truth)
    areas = np.array([annotation["area"] for annotation in objects], dtype=np.float64)
    counted = np.array([(areas >= least) & (areas <= most) for least, most in AREAS.values()])
    taken = matched_rank(
        find_overlaps(truth, objects, results, float(thresholds.min()), max(limits)), thresholds, counted
    )
    found = np.stack([((taken < limit) & counted[:, None]).sum(2) for limit in limits], axis=-1)
    there = counted.sum(1)[:, None, None]
    return np.where(there > 0, found / np.maximum(there, 1), -1.0).transpose(1, 0, 2)


def sort_objects(truth: Truth) -> list[dict[str, Any]]:
    """Return the annotations that are not crowds, sorted by category.

    This is pycocotools' order within an image, which decides between equal overlaps.
    """
    objects = [annotation for annotation in truth["annotations"] if not annotation.get("iscrowd", 0)]
    return sorted(objects, key=lambda annotation: annotation["category_id"])


def find_overlaps(
    truth: Truth, objects: list[dict[str, Any]], results: Sequence[ResultRow], least: float, limit: int
) -> Pairs:
    """Return all pairs of a mask and an object of the same image with an IoU of at least `least`.

    Masks are numbered by image and rank.

    Args:
        truth: in COCO format.
        objects: the annotations that count.
        results: checked rows.
        least: the smallest IoU of a pair.
        limit: the number of masks of an image that take part, best first.
    """
    place = {image["id"]: index for index, image in enumerate(truth["images"])}
    images = np.array([place[result["image_id"]] for result in results], dtype=np.int64)
    scores = np.array([result["score"] for result in results], dtype=np.float64)
    # pycocotools concatenates the masks category by category: equal scores keep the order category, then file
    order = np.lexsort((read_categories(truth, results), -scores, images))
    first = offsets(np.bincount(images, minlength=len(place)))
    things: list[list[int]] = [[] for _ in place]
    for number, annotation in enumerate(objects):
        things[place[annotation["image_id"]]].append(number)
    empty = np.zeros(0, dtype=np.int64)
    parts = [Pairs(empty, empty, empty, np.zeros(0))]
    for image, (start, stop) in enumerate(itertools.pairwise(first.tolist())):
        if start == stop:
            continue
        # all masks are read, also those beyond the limit, so that a broken one is refused at any rank
        masks = slice_masks(read_masks(results, order[start:stop].tolist()), 0, limit)
        size = (truth["images"][image]["height"], truth["images"][image]["width"])
        painted = parse(
            [compress(objects[number]["segmentation"], size)["counts"] for number in things[image]]
        )
        for index, number in enumerate(things[image]):
            close, ious = find_close_masks(masks, slice_masks(painted, index, index + 1), least)
            parts.append(Pairs(start + close, close, np.full(len(close), number), ious))
    return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))
