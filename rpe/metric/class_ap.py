"""Compute the average precision of masks with classes: COCO's AP, and AP^r, which is AP at a single IoU."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rpe.metric.average_recall import COCO_THRESHOLDS
from rpe.metric.reference import reference_precision
from rpe.metric.results import check_results
from rpe.metric.void import remove_void
from rpe.rle import compress, mask_area
from rpe.structures import UserError

MASKS_PER_CLASS = 100
"""Masks of a class in an image that count; COCO's own number."""

REGION_THRESHOLDS = {"APr50": 0.5, "APr70": 0.7}
"""The IoU thresholds of AP^r (Hariharan et al., 2014); the paper reports 0.5."""


def class_precision(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], categories: Mapping[int, str], backend: str
) -> Float[np.ndarray, "threshold class"]:
    """Compute the average precision of each class at each IoU of COCO's 0.5:0.05:0.95, as pycocotools does.

    NaN for a class without objects. The precision is interpolated (at each recall, the best precision at that
    recall or a higher one) and averaged over the 101 recalls 0, 0.01, .. 1. Over all images, masks of a class
    match objects of that class greedily, best score first. Crowds absorb masks. Void (see `find_known_areas`)
    has no class: its pixels are removed from the masks first, and a mask that becomes empty is dropped.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file, each with its category.
        categories: id and name of each class.
        backend: "faster" for faster-coco-eval, otherwise pycocotools; the metrics are the same.

    Raises:
        UserError: `check_results` refuses the results, or a row has no category.
    """
    check_results(truth, results)
    for row, result in enumerate(results):
        if "category_id" not in result:
            raise UserError(
                f"category_id of result {row} (image {result['image_id']}) must be given, got nothing. "
                "Average precision needs the class of each mask."
            )
    masks = remove_void(truth, results)
    if masks is not results:
        masks = [
            after
            for before, after in zip(results, masks, strict=True)
            if after is before or count_mask_pixels(after) or not count_mask_pixels(before)
        ]
    chosen = "faster" if backend == "faster" else "pycocotools"
    return reference_precision(truth, masks, COCO_THRESHOLDS, MASKS_PER_CLASS, list(categories), chosen)


def count_mask_pixels(row: dict[str, Any]) -> int:
    """Return the number of pixels of a row's mask."""
    return mask_area(compress(row["segmentation"], row["segmentation"]["size"]))


def at_thresholds(table: Float[np.ndarray, "threshold class"]) -> dict[str, Float[np.ndarray, " class"]]:
    """Return per class `AP`, the mean over COCO's thresholds, and `APr50` and `APr70`."""
    columns = {"AP": table.mean(0)}
    for name, threshold in REGION_THRESHOLDS.items():
        columns[name] = table[np.abs(COCO_THRESHOLDS - threshold).argmin()]
    return columns


def mean_over_classes(columns: dict[str, Float[np.ndarray, " class"]]) -> dict[str, float]:
    """Return the mean of each metric over the classes with objects; empty without such classes."""
    return {name: float(np.nanmean(values)) for name, values in columns.items() if not np.isnan(values).all()}
