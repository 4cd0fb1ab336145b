"""Average precision of masks with classes: COCO's, and AP^r, the same at one IoU alone, as pycocotools computes both."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools import mask as coco_mask

from rpe.metric.average_recall import COCO_THRESHOLDS
from rpe.metric.reference import reference_precision
from rpe.metric.results import check_results
from rpe.metric.run_length import compressed
from rpe.metric.void import without_void
from rpe.structures import UserError

LIMIT = 100
"""Masks of a class in an image that count, COCO's own number."""

REGION_THRESHOLDS = {"APr50": 0.5, "APr70": 0.7}
"""The IoU that AP^r asks for (Hariharan et al., 2014); the paper reports 0.5."""


def class_precision(
    truth: dict[str, Any], results: list[dict[str, Any]], categories: Mapping[int, str], backend: str
) -> Float[np.ndarray, "threshold class"]:
    """Average precision of each class at each IoU of COCO's 0.5:0.05:0.95; NaN for a class without an object.

    The precision is interpolated (at each recall the best of that recall or a higher one) and averaged over the 101 recalls 0, 0.01, .. 1; masks of a
    class take objects of it greedily, best score first, over all images; crowds absorb masks. Void (see `known_areas`) is of no class: its pixels
    are taken out of the masks first, and a mask of which nothing is left is none.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file, each with its category.
        categories: id and name of each class.
        backend: "faster" for faster-coco-eval, otherwise pycocotools; the figures are the same.

    Raises:
        UserError: results that `check_results` refuses, or a row without a category.
    """
    check_results(truth, results)
    for row, result in enumerate(results):
        if "category_id" not in result:
            raise UserError(
                f"result {row} (image {result['image_id']}) has no category_id: average precision asks for the class of each mask"
            )
    known = {
        **truth,
        "annotations": [
            annotation for annotation in truth["annotations"] if not annotation.get("void", False)
        ],
    }
    masks = [
        after
        for before, after in zip(results, without_void(truth, results), strict=True)
        if after is before or area_of(after) or not area_of(before)
    ]
    chosen = "faster" if backend == "faster" else "pycocotools"
    return reference_precision(known, masks, COCO_THRESHOLDS, LIMIT, list(categories), chosen)


def area_of(row: dict[str, Any]) -> int:
    """Pixels of a row's mask."""
    return int(coco_mask.area(compressed(row["segmentation"], row["segmentation"]["size"])))


def at_thresholds(table: Float[np.ndarray, "threshold class"]) -> dict[str, Float[np.ndarray, " class"]]:
    """Of each class `AP`, the mean over COCO's thresholds, and `APr50`, `APr70`."""
    columns = {"AP": table.mean(0)}
    for name, threshold in REGION_THRESHOLDS.items():
        columns[name] = table[np.abs(COCO_THRESHOLDS - threshold).argmin()]
    return columns


def mean_over_classes(columns: dict[str, Float[np.ndarray, " class"]]) -> dict[str, float]:
    """The mean of each over the classes that have an object; left out where none has."""
    return {name: float(np.nanmean(values)) for name, values in columns.items() if not np.isnan(values).all()}
