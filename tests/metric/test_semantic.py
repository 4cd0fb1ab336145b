"""mIoU by hand and by torchmetrics, and the true class maps: void is not counted, the smaller object is on top."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from rpe.metric.semantic import class_ious, empty_confusion, semantic_metrics, true_class_maps
from rpe.rle import encode_mask

NAMES = ["background", "a", "b", "c"]


def confusion_of(predicted: np.ndarray, truth: np.ndarray, classes: int = 3) -> np.ndarray:
    metric = empty_confusion(classes)
    metric.update(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None])
    return metric.compute().numpy()


def test_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, 2, -1]])
    predicted = np.array([[0, 1, 1, 1], [0, 0, 0, 3]])
    figures = semantic_metrics(confusion_of(predicted, truth), NAMES)
    # background: 3 of 5, a: 2 of 3, b: 0 of 1; c is predicted on void alone, and so is not there
    assert figures == pytest.approx(
        {
            "mIoU": (3 / 5 + 2 / 3 + 0) / 3,
            "accuracy": 5 / 7,
            "IoU-background": 3 / 5,
            "IoU-a": 2 / 3,
            "IoU-b": 0.0,
        }
    )


def test_void_changes_nothing() -> None:
    random = np.random.default_rng(0)
    truth, predicted = random.integers(-1, 4, (2, 30, 40)), random.integers(0, 4, (2, 30, 40))
    other = np.where(truth == -1, (predicted + 1) % 4, predicted)
    assert (confusion_of(predicted, truth) == confusion_of(other, truth)).all()
    assert confusion_of(predicted, truth).sum() == (truth >= 0).sum()
    assert semantic_metrics(confusion_of(predicted, np.full_like(truth, -1)), NAMES) == {}


def test_the_same_as_torchmetrics_and_one_wrong_class_costs_what_it_should() -> None:
    random = np.random.default_rng(1)
    truth, predicted = random.integers(-1, 4, (30, 40)), random.integers(0, 4, (30, 40))
    theirs = MulticlassJaccardIndex(4, average="none", ignore_index=-1)(
        torch.from_numpy(predicted), torch.from_numpy(truth)
    )
    assert class_ious(confusion_of(predicted, truth)) == pytest.approx(theirs.numpy(), abs=1e-6)
    perfect = semantic_metrics(confusion_of(np.where(truth == -1, 2, truth), truth), NAMES)
    assert perfect["mIoU"] == perfect["accuracy"] == 1.0
    # all of class 3 called 2: the one has no pixel right, the other shares its pixels with the first's
    swapped = np.where(truth == 3, 2, np.where(truth == -1, 0, truth))
    count = [int((truth == number).sum()) for number in range(4)]
    figures = semantic_metrics(confusion_of(swapped, truth), NAMES)
    assert figures["mIoU"] == pytest.approx((1 + 1 + count[2] / (count[2] + count[3]) + 0) / 4)
    assert figures["accuracy"] == pytest.approx(1 - count[3] / sum(count))


def test_true_class_maps() -> None:
    masks = [np.zeros((4, 6), dtype=bool) for _ in range(4)]
    masks[0][:, :5], masks[1][1:3, 1:3], masks[2][0, :] = True, True, True
    masks[3][3, 3:] = True
    rows = [(1, 30, 0), (1, 10, 0), (1, 30, 1), (2, 20, 0)]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "iscrowd": crowd,
            "area": float(mask.sum()),
            "segmentation": encode_mask(mask),
        }
        for number, (mask, (image, category, crowd)) in enumerate(zip(masks, rows, strict=True), start=1)
    ]
    images = [{"id": number, "height": 4, "width": 6, "file_name": f"{number}.png"} for number in (1, 2, 3)]
    maps = dict(
        true_class_maps({"images": images, "annotations": annotations, "categories": []}, [10, 20, 30])
    )
    wanted = np.where(masks[2], -1, 0)
    wanted[masks[0]] = 3
    wanted[masks[1]] = 1
    assert (maps[1] == wanted).all() and (maps[2] == np.where(masks[3], 2, 0)).all() and not maps[3].any()
