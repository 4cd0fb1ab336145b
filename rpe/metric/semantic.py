"""Class maps against the truth: mean intersection over union, accuracy, and the confusion matrix that both come from."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from torchmetrics.classification import MulticlassConfusionMatrix

from rpe.metric.instance_ap import painting_order, true_labels
from rpe.structures import BACKGROUND, VOID

Confusion = Int64[np.ndarray, "truth prediction"]
"""Pixels of each class, the background first, that were called each class; void in the truth is not counted."""


def empty_confusion(classes: int) -> MulticlassConfusionMatrix:
    """A confusion matrix without a pixel yet; torchmetrics adds those of all ranks when it is computed. `classes` are without the background."""
    return MulticlassConfusionMatrix(1 + classes, ignore_index=VOID, validate_args=False)


def class_ious(confusion: Confusion) -> Float[np.ndarray, " class"]:
    """TP / (TP + FP + FN) of each class over the pixels of all images; NaN for a class that neither truth nor prediction has."""
    right = confusion.diagonal().astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def semantic_figures(confusion: Confusion, names: Sequence[str]) -> dict[str, float]:
    """As PASCAL VOC's segmentation task: counts are pooled over all images, then the mean is taken over the classes, the background one of them.

    Args:
        names: of the classes, the background's first.

    Returns:
        `mIoU`, `accuracy` (the share of pixels that are right), `IoU-<class>`; what has no pixel is left out.
    """
    if not confusion.any():
        return {}
    ious = class_ious(confusion)
    figures = {
        "mIoU": float(np.nanmean(ious)),
        "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
    }
    return figures | {
        f"IoU-{name}": float(iou) for name, iou in zip(names, ious, strict=True) if not np.isnan(iou)
    }


def true_class_maps(
    truth: dict[str, Any], categories: Sequence[int]
) -> Iterator[tuple[int, Int64[np.ndarray, "height width"]]]:
    """Id and class map of each image, at its original size: crowds are void, of objects that overlap the one of fewer pixels is on top, as in
    training.

    Args:
        truth: in COCO format.
        categories: the ids of class 1, 2, ..
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
