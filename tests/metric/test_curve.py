import numpy as np
import pytest

from rpe.metric.average_recall import average_recall
from rpe.metric.curve import (
    NUMBERS,
    OVERLAPS,
    PUBLISHED_RECALL,
    recall_against_number,
    recall_against_overlap,
    select_published,
)
from rpe.rle import encode_mask


def scene() -> tuple[dict, list[dict]]:
    """Four objects of 10 x 10; found exactly, shifted by one column (IoU 9/11), by three (7/13), and not at all, in this order of scores."""
    masks = np.zeros((4, 20, 80), dtype=bool)
    annotations, rows = [], []
    for number, mask in enumerate(masks):
        mask[5:15, 20 * number + 2 : 20 * number + 12] = True
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": 100.0,
                "segmentation": encode_mask(mask),
            }
        )
        shift = (0, 1, 3, 8)[number]
        rows.append(
            {"image_id": 1, "segmentation": encode_mask(np.roll(mask, shift, 1)), "score": 1.0 - shift / 10}
        )
    return {
        "images": [{"id": 1, "height": 20, "width": 80}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "box"}],
    }, rows


def test_recall_against_overlap() -> None:
    truth, rows = scene()
    two, many = recall_against_overlap(truth, rows, [2, 100])
    assert (two.name, many.name) == ("2 masks", "100 masks") and (many.x == OVERLAPS).all()
    assert many.y.tolist() == [0.25 * (1 + (x <= 9 / 11) + (x <= 7 / 13)) for x in OVERLAPS]
    assert two.y.tolist() == [0.25 * (1 + (x <= 9 / 11)) for x in OVERLAPS]
    assert recall_against_overlap({**truth, "annotations": []}, rows, [2]) == []


@pytest.mark.parametrize(("protocol", "numbers"), [("AR", (1, 10, 100, 1000)), ("AR_voc", (10, 30, 60))])
def test_recall_against_number_passes_through_the_figures(protocol: str, numbers: tuple[int, ...]) -> None:
    truth, rows = scene()
    curve, figures = recall_against_number(truth, rows, protocol), average_recall(truth, rows)
    assert curve.x.tolist() == list(NUMBERS)
    for number in numbers:
        assert curve.y[NUMBERS.index(number)] == figures[f"{protocol}@{number}"] > 0
    assert (np.diff(curve.y) >= 0).all()
    assert np.isnan(recall_against_number({**truth, "annotations": []}, rows, protocol).y).all()


def test_what_was_published_says_so() -> None:
    for curves in PUBLISHED_RECALL.values():
        for curve in curves:
            assert (
                "published" in curve.name
                and len(curve.x) == len(curve.y)
                and (np.diff(curve.y) > 0).all()
                and 0 < curve.y.min() < curve.y.max() + 1 < 2
            )
    assert PUBLISHED_RECALL["AR_voc"][0].x.tolist() == [60] and PUBLISHED_RECALL["AR_voc"][0].y.tolist() == [
        0.814
    ]
    assert (
        select_published("AR", "coco", "val", 5000, True) == PUBLISHED_RECALL["AR"]
        and select_published("AR_voc", "voc", "val", 1449, True) == PUBLISHED_RECALL["AR_voc"]
    )
    for other in (
        ("coco", "val", 79, True),
        ("coco", "val", 5000, False),
        ("coco", "train", 5000, True),
        ("voc", "val", 5000, True),
    ):
        assert select_published("AR", *other) == [], other
