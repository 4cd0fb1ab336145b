import csv

import numpy as np
import pytest

from rpe.metric.calibration import fit_calibration, mask_ious, reliability, scored_ious
from rpe.rle import encode_mask
from rpe.structures import UserError


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((20, 20), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def scene(*objects: tuple[np.ndarray, dict]) -> dict:
    """Image 1 holds the objects, image 2 nothing."""
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": number % 2 + 1,
            "iscrowd": 0,
            "area": 1.0,
            "segmentation": encode_mask(mask),
        }
        | more
        for number, (mask, more) in enumerate(objects, start=1)
    ]
    images = [{"id": number, "file_name": str(number), "height": 20, "width": 20} for number in (1, 2)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def rows(*masks: np.ndarray, image: int = 1) -> list[dict]:
    return [
        {"image_id": image, "category_id": 1, "score": 0.1 * number, "segmentation": encode_mask(mask)}
        for number, mask in enumerate(masks)
    ]


def test_the_best_object_of_the_masks_own_image_counts() -> None:
    truth = scene((box(0, 0, 4, 4), {}), (box(0, 3, 4, 8), {}))
    ious = mask_ious(truth, rows(box(0, 0, 4, 5), box(10, 10, 2, 2)) + rows(box(0, 0, 4, 4), image=2))
    assert ious.tolist() == [16 / 20, 0, 0]


def test_masks_that_say_nothing_are_left_out() -> None:
    void = {"iscrowd": 1, "void": True}
    truth = scene((box(0, 0, 4, 4), {}), (box(0, 4, 4, 4), void), (box(10, 0, 10, 10), {"iscrowd": 1}))
    masks = rows(box(0, 0, 4, 8), box(0, 5, 2, 2), box(10, 0, 4, 4), box(8, 0, 3, 4), box(15, 15, 2, 2))
    assert np.array_equal(mask_ious(truth, masks), [1, np.nan, np.nan, 0, 0], equal_nan=True), (
        "void goes; a third in a crowd stays"
    )
    assert scored_ious(truth, masks).T.tolist() == [[0, 1], [pytest.approx(0.3), 0], [0.4, 0]]


def test_an_image_may_have_more_masks_than_a_byte_counts() -> None:
    truth, masks = scene((box(0, 0, 4, 4), {})), [box(0, 0, 4, 4)] * 300 + [box(0, 0, 4, 8)]
    assert mask_ious(truth, rows(*masks)).tolist() == [1.0] * 300 + [0.5]


def test_bins_and_their_error() -> None:
    scores, ious = np.array([0.0, 0.05, 0.1, 0.95, 1.0]), np.array([0.1, 0.2, 0.1, 0.5, 0.9])
    bins = reliability(scores, ious)
    assert bins.masks.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2], (
        "an edge belongs to the bin above it, 1 to the last"
    )
    assert bins.calibration_error() == pytest.approx((2 * 0.125 + 1 * 0.0 + 2 * 0.275) / 5)
    table = list(csv.DictReader(bins.as_csv().splitlines()))
    assert table[9] == {"from": "0.9", "to": "1", "masks": "2", "mean_score": "0.975", "mean_iou": "0.7"}
    assert table[3]["mean_iou"] == "" and len(table) == 10


def test_scores_that_are_no_ious_have_bins_but_no_error() -> None:
    bins = reliability(np.array([-3.0, 12.0]), np.array([0.0, 1.0]))
    assert bins.masks[0] == bins.masks[-1] == 1 and bins.calibration_error() is None
    assert reliability(np.zeros(0), np.zeros(0)).calibration_error() is None


def test_the_fit_never_falls_and_finds_a_map_that_is_known() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(4000)
    ious = (generator.random(4000) < scores**2).astype(float)
    knots = fit_calibration(scores, ious)
    assert (
        (np.diff(knots[0]) > 0).all()
        and (np.diff(knots[1]) >= 0).all()
        and knots[1].min() >= 0
        and knots[1].max() <= 1
    )
    grid = np.linspace(0.05, 0.95, 19)
    assert np.abs(np.interp(grid, *knots) - grid**2).max() < 0.1
    raw, mapped = (
        reliability(values, ious).calibration_error() for values in (scores, np.interp(scores, *knots))
    )
    assert raw is not None and mapped is not None and raw > 0.1 and mapped < 0.01
    with pytest.raises(UserError, match="scores of masks must have 2 or more different values, got 1"):
        fit_calibration(np.full(5, 0.5), np.zeros(5))
