"""Compute average recall by the number of objects per image, and of touching objects.

Images with a single object are easy for any method, so they are reported apart.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from rpe.metric.average_recall import COCO_THRESHOLDS, find_overlaps, sort_objects
from rpe.metric.instance_ap import TOUCHING_GAP
from rpe.metric.matching import matched_rank
from rpe.metric.void import remove_void
from rpe.rle import compress, mask_box
from rpe.structures import ResultRow, Truth

MASKS_PER_IMAGE = 10
"""Masks of an image that count, best score first."""


def recall_by_object_count(truth: Truth, results: list[ResultRow]) -> dict[str, float]:
    """Return average recall at 10 masks per image for subsets of the objects; crowds are ignored.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file that `average_recall` has accepted.

    Returns:
        `AR@10-1-object`, `-2-objects`, `-3+-objects` and `-2+-objects`: objects of images with that many
            objects. `AR@10-touching`: objects with a box closer than 2 pixels to another object's, and
            `recall50@10-touching`, the same at IoU 0.5. Subsets without objects are left out.
    """
    objects = sort_objects(truth)
    images = np.array([annotation["image_id"] for annotation in objects], dtype=np.int64)
    _, image_index, counts = np.unique(images, return_inverse=True, return_counts=True)
    number = counts[image_index]
    subsets = {
        "1-object": number == 1,
        "2-objects": number == 2,
        "3+-objects": number >= 3,
        "2+-objects": number >= 2,
        "touching": find_touching_objects(truth, objects, image_index),
    }
    pairs = find_overlaps(
        truth, objects, remove_void(truth, results), float(COCO_THRESHOLDS.min()), MASKS_PER_IMAGE
    )
    taken = matched_rank(pairs, COCO_THRESHOLDS, np.stack(list(subsets.values())))
    metrics = {}
    for (name, subset), ranks in zip(subsets.items(), taken, strict=True):
        if subset.any():
            recall = (ranks[:, subset] < MASKS_PER_IMAGE).mean(1)
            metrics[f"AR@{MASKS_PER_IMAGE}-{name}"] = float(recall.mean())
            if name == "touching":
                metrics[f"recall50@{MASKS_PER_IMAGE}-touching"] = float(recall[0])
    return metrics


def find_touching_objects(
    truth: Truth, objects: list[dict[str, Any]], image_index: Int64[np.ndarray, " object"]
) -> Bool[np.ndarray, " object"]:
    """Return which objects have a box closer than `TOUCHING_GAP` pixels to another box of their image."""
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in truth["images"]}
    boxes = np.zeros((len(objects), 4))
    for index, annotation in enumerate(objects):
        boxes[index] = mask_box(compress(annotation["segmentation"], sizes[annotation["image_id"]]))
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    close = np.zeros(len(objects), dtype=bool)
    for image in range(int(image_index.max(initial=-1)) + 1):
        mine = np.nonzero(image_index == image)[0]
        gap = np.maximum(low[mine, None] - high[mine], low[mine] - high[mine, None]).max(-1)
        np.fill_diagonal(gap, TOUCHING_GAP)
        close[mine] = (gap < TOUCHING_GAP).any(1)
    return close
