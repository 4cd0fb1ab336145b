"""Recall by pycocotools, or by faster-coco-eval, which has the same interface: what the own matching must equal to the last digit."""

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
    """The recall with categories ignored, of results that have been checked; -1 where there is no object.

    Results keep their category, by which equal scores are ordered. Both leave things out without a word, which is prevented here: results of a
    category that the truth does not hold, objects of one that it does not list, and objects whose id is 0. Both write into what they are given, hence the copies.
    """
    if not truth["annotations"] or not results:
        there = [any(within(annotation, area) for annotation in truth["annotations"]) for area in areas]
        return np.broadcast_to(np.where(there, 0.0, -1.0)[:, None], (len(thresholds), len(areas), len(limits))).copy()
    make_truth, make_evaluation = PARTS[backend]
    named = categories_of(truth, results).tolist()
    categories = sorted({annotation["category_id"] for annotation in truth["annotations"]} | set(named))
    with contextlib.redirect_stdout(io.StringIO()):
        ground = make_truth()
        ground.dataset = {
            **truth,
            "categories": [{"id": category, "name": str(category)} for category in categories],
            "annotations": [{"iscrowd": 0} | annotation | {"id": number} for number, annotation in enumerate(truth["annotations"], start=1)],
        }
        ground.createIndex()
        rows = [
            {
                "image_id": result["image_id"],
                "category_id": category,
                "segmentation": compressed(result["segmentation"], result["segmentation"]["size"]),
                "score": result["score"],
            }
            for result, category in zip(results, named, strict=True)
        ]
        evaluation = make_evaluation(ground, ground.loadRes(rows), "segm")
        evaluation.params.useCats = 0
        evaluation.params.iouThrs = thresholds
        evaluation.params.areaRng = [list(area) for area in areas]
        evaluation.params.areaRngLbl = [str(area) for area in areas]
        evaluation.params.maxDets = list(limits)
        evaluation.params.imgIds = sorted(ground.imgs)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["recall"])[:, 0]


def within(annotation: dict[str, Any], area: tuple[float, float]) -> bool:
    """Whether an annotation is an object of this range."""
    return not annotation.get("iscrowd", 0) and area[0] <= annotation["area"] <= area[1]
