"""Compute semantic segmentation metrics from the confusion matrix: mean IoU and accuracy."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from torchmetrics.classification import MulticlassConfusionMatrix

from rpe.metric.instance_ap import painting_order, true_labels
from rpe.structures import BACKGROUND, VOID

Confusion = Int64[np.ndarray, "truth prediction"]
"""Pixels of each true class (background first) by predicted class, without void pixels of the truth."""


def empty_confusion(classes: int) -> MulticlassConfusionMatrix:
    """Create an empty confusion matrix, which torchmetrics sums over ranks.

    Args:
        classes: their number, without the background.
    """
    return MulticlassConfusionMatrix(1 + classes, ignore_index=VOID, validate_args=False)


def class_ious(confusion: Confusion) -> Float[np.ndarray, " class"]:
    """Return TP / (TP + FP + FN) of each class, pooled over images; NaN for a class that never occurs."""
    right = confusion.diagonal().astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def semantic_metrics(confusion: Confusion, names: Sequence[str]) -> dict[str, float]:
    """Compute metrics as PASCAL VOC does: counts pooled over images, mean over classes with the background.

    Args:
        confusion: pixels by true and predicted class.
        names: of the classes, background first.

    Returns:
        `mIoU`, `accuracy` (the share of correct pixels), `IoU-<class>`. Metrics without pixels are left out.
    """
    if not confusion.any():
        return {}
    ious = class_ious(confusion)
    metrics = {
        "mIoU": float(np.nanmean(ious)),
        "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
    }
    return metrics | {
        f"IoU-{name}": float(iou) for name, iou in zip(names, ious, strict=True) if not np.isnan(iou)
    }


def true_class_maps(
    truth: dict[str, Any], categories: Sequence[int]
) -> Iterator[tuple[int, Int64[np.ndarray, "height width"]]]:
    """Yield id and class map of each image at its original size.

    Crowds become void. Of overlapping objects the one of fewer pixels is on top, as in training.

    Args:
        truth: in COCO format.
        categories: ids of class 1, 2, ..
    """
    number_of = {category: number for number, category in enumerate(categories, start=1)}
    annotations: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    for image in truth["images"]:
        mine = annotations[image["id"]]
        size = (int(image["height"]), int(image["width"]))
        labels = true_labels(mine, size)
        classes = np.array(
            [
                BACKGROUND,
                *(number_of[annotation["category_id"]] for annotation in painting_order(mine, size)),
            ],
            dtype=np.int64,
        )
        yield image["id"], np.where(labels == VOID, VOID, classes[labels.clip(min=BACKGROUND)])
