"""Compute recall and precision by pycocotools, or by faster-coco-eval, which has the same interface.

This package's own matcher must equal both to the last digit.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
from jaxtyping import Float

from rpe.metric.results import read_categories
from rpe.rle import compress

BACKEND_CLASSES = {
    "pycocotools": (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
}
"""The classes of truth and evaluation of each backend."""


def reference_table(
    truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    thresholds: Float[np.ndarray, " threshold"],
    areas: Sequence[tuple[float, float]],
    limits: Sequence[int],
    backend: str,
) -> Float[np.ndarray, "threshold area limit"]:
    """Compute the recall with categories ignored from checked results; -1 without objects."""
    if not truth["annotations"] or not results:
        there = [any(is_in_area(annotation, area) for annotation in truth["annotations"]) for area in areas]
        return np.broadcast_to(
            np.where(there, 0.0, -1.0)[:, None], (len(thresholds), len(areas), len(limits))
        ).copy()
    return np.asarray(
        run_backend(truth, results, thresholds, areas, limits, backend, by_class=False).eval["recall"]
    )[:, 0]


def reference_precision(
    truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    thresholds: Float[np.ndarray, " threshold"],
    limit: int,
    categories: list[int],
    backend: str,
) -> Float[np.ndarray, "threshold category"]:
    """Compute the interpolated precision, averaged over COCO's 101 recalls, from checked results.

    NaN for a category without objects.

    Args:
        truth, results, thresholds, backend: see `reference_table`.
        limit: masks of a category per image that count, best first.
        categories: ids, in the order of the columns.
    """
    there = {
        annotation["category_id"] for annotation in truth["annotations"] if not annotation.get("iscrowd", 0)
    }
    found = np.where([category in there for category in categories], 0.0, np.nan)
    table = np.broadcast_to(found, (len(thresholds), len(categories))).copy()
    if results:
        evaluation = run_backend(truth, results, thresholds, [(0, 1e10)], [limit], backend, by_class=True)
        columns = list(evaluation.params.catIds)
        for index, category in enumerate(categories):
            if category in there:
                table[:, index] = np.asarray(evaluation.eval["precision"])[
                    :, :, columns.index(category), 0, 0
                ].mean(1)
    return table


def run_backend(
    truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    thresholds: Float[np.ndarray, " threshold"],
    areas: Sequence[tuple[float, float]],
    limits: Sequence[int],
    backend: str,
    by_class: bool,
) -> Any:
    """Return the backend's evaluation, accumulated.

    Results keep their category, which orders equal scores. Both backends silently ignore results of a
    category that the truth does not list, objects of such a category, and objects with id 0; categories and
    ids are rewritten to prevent this. Both modify their inputs, hence the copies.
    """
    make_truth, make_evaluation = BACKEND_CLASSES[backend]
    named = read_categories(truth, results).tolist()
    categories = sorted({annotation["category_id"] for annotation in truth["annotations"]} | set(named))
    with contextlib.redirect_stdout(io.StringIO()):
        ground = make_truth()
        ground.dataset = {
            **truth,
            "categories": [{"id": category, "name": str(category)} for category in categories],
            "annotations": [
                {"iscrowd": 0} | annotation | {"id": number}
                for number, annotation in enumerate(truth["annotations"], start=1)
            ],
        }
        ground.createIndex()
        rows = [
            {
                "image_id": int(result["image_id"]),
                "category_id": category,
                "segmentation": compress(result["segmentation"], result["segmentation"]["size"]),
                "score": result["score"],
            }
            for result, category in zip(results, named, strict=True)
        ]
        evaluation = make_evaluation(ground, ground.loadRes(rows), "segm")
        evaluation.params.useCats = int(by_class)
        evaluation.params.iouThrs = thresholds
        evaluation.params.areaRng = [list(area) for area in areas]
        evaluation.params.areaRngLbl = [str(area) for area in areas]
        evaluation.params.maxDets = list(limits)
        evaluation.params.imgIds = sorted(ground.imgs)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def is_in_area(annotation: dict[str, Any], area: tuple[float, float]) -> bool:
    """Return whether an annotation is an object with an area in this range."""
    return not annotation.get("iscrowd", 0) and area[0] <= annotation["area"] <= area[1]
