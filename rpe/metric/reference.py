"""Recall and precision by pycocotools, or by faster-coco-eval, which has the same interface: what the own matching must equal to the last digit."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
from jaxtyping import Float

from rpe.metric.results import categories_of
from rpe.metric.run_length import compressed

PARTS = {
    "pycocotools": (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
}


def reference_table(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    thresholds: Float[np.ndarray, " threshold"],
    areas: Sequence[tuple[float, float]],
    limits: Sequence[int],
    backend: str,
) -> Float[np.ndarray, "threshold area limit"]:
    """The recall with categories ignored, of results that have been checked; -1 where there is no object."""
    if not truth["annotations"] or not results:
        there = [any(within(annotation, area) for annotation in truth["annotations"]) for area in areas]
        return np.broadcast_to(
            np.where(there, 0.0, -1.0)[:, None], (len(thresholds), len(areas), len(limits))
        ).copy()
    return np.asarray(
        evaluated(truth, results, thresholds, areas, limits, backend, by_class=False).eval["recall"]
    )[:, 0]


def reference_precision(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    thresholds: Float[np.ndarray, " threshold"],
    limit: int,
    categories: list[int],
    backend: str,
) -> Float[np.ndarray, "threshold category"]:
    """The mean of the interpolated precision over COCO's 101 recalls, of results that have been checked; NaN where a category has no object.

    Args:
        limit: masks of a category in an image, the best first.
        categories: ids, in the order of the columns.
    """
    there = {
        annotation["category_id"] for annotation in truth["annotations"] if not annotation.get("iscrowd", 0)
    }
    found = np.where([category in there for category in categories], 0.0, np.nan)
    table = np.broadcast_to(found, (len(thresholds), len(categories))).copy()
    if results:
        evaluation = evaluated(truth, results, thresholds, [(0, 1e10)], [limit], backend, by_class=True)
        columns = list(evaluation.params.catIds)
        for index, category in enumerate(categories):
            if category in there:
                table[:, index] = np.asarray(evaluation.eval["precision"])[
                    :, :, columns.index(category), 0, 0
                ].mean(1)
    return table


def evaluated(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    thresholds: Float[np.ndarray, " threshold"],
    areas: Sequence[tuple[float, float]],
    limits: Sequence[int],
    backend: str,
    by_class: bool,
) -> Any:
    """The backend's evaluation, accumulated.

    Results keep their category, by which equal scores are ordered. Both leave things out without a word, which is prevented here: results of a
    category that the truth does not hold, objects of one that it does not list, and objects whose id is 0. Both write into what they are given, hence the copies.
    """
    make_truth, make_evaluation = PARTS[backend]
    named = categories_of(truth, results).tolist()
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
                "segmentation": compressed(result["segmentation"], result["segmentation"]["size"]),
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


def within(annotation: dict[str, Any], area: tuple[float, float]) -> bool:
    """Whether an annotation is an object of this range."""
    return not annotation.get("iscrowd", 0) and area[0] <= annotation["area"] <= area[1]
