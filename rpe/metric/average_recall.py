"""Class-agnostic average recall of ranked masks, as COCO defines it; pycocotools does the matching."""

import contextlib
import io
import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rpe.structures import InputError, RunLength

LIMITS = [1, 10, 100, 1000]
"""Masks an image that count, best score first."""

AREAS = ["all", "small", "medium", "large"]
"""pycocotools' ranges: all, below 32^2, to 96^2, and above."""

BY_SIZE_AT = 100

Truth = dict[str, Any]
Result = dict[str, Any]


def average_recall(truth: Truth, results: list[Result]) -> dict[str, float]:
    """Mean recall over IoU 0.5:0.05:0.95 of all objects whatever their category; crowds absorb masks and are no objects.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file; their category does not matter.

    Returns:
        `AR@1 AR@10 AR@100 AR@1000 AR@100-small AR@100-medium AR@100-large`; a range without objects is left out.

    Raises:
        InputError: a result that names an unknown image or lacks its mask or score.
    """
    recall = recall_table(truth, results)
    figures = {f"AR@{limit}": recall[:, AREAS.index("all"), index] for index, limit in enumerate(LIMITS)}
    at = LIMITS.index(BY_SIZE_AT)
    figures |= {f"AR@{BY_SIZE_AT}-{area}": recall[:, AREAS.index(area), at] for area in AREAS[1:]}
    # pycocotools says -1 where there is nothing to recall
    return {name: float(values[values > -1].mean()) for name, values in figures.items() if (values > -1).any()}


def recall_table(truth: Truth, results: list[Result]) -> np.ndarray:
    """pycocotools' recall [IoU threshold, area, limit] with categories ignored; -1 where there is no object."""
    check_results(truth, results)
    if not truth["annotations"]:
        return np.full((10, len(AREAS), len(LIMITS)), -1.0)
    category = truth["categories"][0]["id"]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        # copies: pycocotools writes into what it is given
        ground.dataset = {**truth, "annotations": [dict(annotation) for annotation in truth["annotations"]]}
        ground.createIndex()
        # a category that the truth does not hold would be dropped without a word
        detections = COCO()
        detections.dataset = {**truth, "annotations": []}
        detections.createIndex()
        if results:
            detections = ground.loadRes(
                [{**result, "category_id": category, "segmentation": compressed(result["segmentation"])} for result in results]
            )
        evaluation = COCOeval(ground, detections, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = LIMITS
        evaluation.params.imgIds = sorted(ground.imgs)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["recall"])[:, 0]


def compressed(mask: RunLength) -> RunLength:
    """A run-length mask whose counts may be a list, with compressed counts."""
    return coco_mask.frPyObjects(mask, *mask["size"]) if isinstance(mask["counts"], list) else mask


def check_results(truth: Truth, results: list[Result]) -> None:
    """Refuse results that pycocotools would drop, or trip over.

    Raises:
        InputError: naming the first wrong row.
    """
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    if not isinstance(results, list):
        raise InputError("a results file holds a list of {image_id, category_id, segmentation, score}, not " + type(results).__name__)
    for row, result in enumerate(results):
        missing = [key for key in ("image_id", "segmentation", "score") if not isinstance(result, dict) or key not in result]
        if missing:
            raise InputError(f"result {row} has no {missing[0]}: each row is {{image_id, category_id, segmentation, score}}")
        if not isinstance(result["image_id"], int) or result["image_id"] not in sizes:
            raise InputError(f"result {row} names image {result['image_id']}, which the truth does not hold: is this another split's file?")
        if not isinstance(result["score"], int | float) or not math.isfinite(result["score"]):
            raise InputError(f"result {row} (image {result['image_id']}) has the score {result['score']}: a finite number ranks it")
        mask = result["segmentation"]
        if not isinstance(mask, dict) or not isinstance(mask.get("size"), list) or not isinstance(mask.get("counts"), str | list):
            raise InputError(f"result {row} (image {result['image_id']}) has no run-length mask: segmentation holds size and counts")
        if list(mask["size"]) != sizes[result["image_id"]]:
            raise InputError(
                f"result {row} has a mask of size {list(mask['size'])}, but image {result['image_id']} is {sizes[result['image_id']]} (height, width)"
            )
