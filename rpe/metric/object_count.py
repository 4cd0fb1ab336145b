"""Average recall by the number of objects in the image, and of touching objects: with one object in an image anything works."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from pycocotools import mask as coco_mask

from rpe.metric.average_recall import COCO_THRESHOLDS, Result, Truth, ordered_objects, overlapping
from rpe.metric.instance_ap import TOUCHING_GAP
from rpe.metric.matching import matched_rank
from rpe.metric.run_length import compressed
from rpe.metric.void import without_void

LIMIT = 10
"""Masks of an image that count, best score first."""


def recall_by_object_count(truth: Truth, results: list[Result]) -> dict[str, float]:
    """Return average recall at 10 masks an image of subsets of the objects; crowds neither count nor are counted.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file that `average_recall` has accepted.

    Returns:
        `AR@10-1-object`, `-2-objects`, `-3+-objects` and `-2+-objects` of images with so many objects; `AR@10-touching`, of objects whose
        box is closer than 2 pixels to another object's, and `recall50@10-touching`, at IoU 0.5 alone. A subset without objects is left out.
    """
    objects = ordered_objects(truth)
    images = np.array([annotation["image_id"] for annotation in objects], dtype=np.int64)
    _, place, counts = np.unique(images, return_inverse=True, return_counts=True)
    number = counts[place]
    subsets = {
        "1-object": number == 1,
        "2-objects": number == 2,
        "3+-objects": number >= 3,
        "2+-objects": number >= 2,
        "touching": touching_objects(truth, objects, place),
    }
    pairs = overlapping(truth, objects, without_void(truth, results), float(COCO_THRESHOLDS.min()), LIMIT)
    taken = matched_rank(pairs, COCO_THRESHOLDS, np.stack(list(subsets.values())))
    figures = {}
    for (name, subset), ranks in zip(subsets.items(), taken, strict=True):
        if subset.any():
            recall = (ranks[:, subset] < LIMIT).mean(1)
            figures[f"AR@{LIMIT}-{name}"] = float(recall.mean())
            if name == "touching":
                figures[f"recall50@{LIMIT}-touching"] = float(recall[0])
    return figures


def touching_objects(
    truth: Truth, objects: list[dict[str, Any]], place: Int64[np.ndarray, " object"]
) -> Bool[np.ndarray, " object"]:
    """Return which objects have a box closer than `TOUCHING_GAP` pixels to the box of another object of their image."""
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in truth["images"]}
    boxes = np.zeros((len(objects), 4))
    for index, annotation in enumerate(objects):
        boxes[index] = coco_mask.toBbox(compressed(annotation["segmentation"], sizes[annotation["image_id"]]))
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    close = np.zeros(len(objects), dtype=bool)
    for image in range(int(place.max(initial=-1)) + 1):
        mine = np.nonzero(place == image)[0]
        gap = np.maximum(low[mine, None] - high[mine], low[mine] - high[mine, None]).max(-1)
        np.fill_diagonal(gap, TOUCHING_GAP)
        close[mine] = (gap < TOUCHING_GAP).any(1)
    return close
