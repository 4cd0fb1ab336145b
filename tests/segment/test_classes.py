"""Classes of masks by hand: the mean inside, the product of both scores, connected parts of a class."""

import numpy as np
import pytest
import torch

from rpe.rle import decode_mask, encode_mask
from rpe.segment import class_components, class_probability, classify_masks
from rpe.segment.classes import average_inside
from rpe.structures import FeatureMap, Geometry, Proposals


def box(*corners: int) -> np.ndarray:
    mask = np.zeros((6, 8), dtype=bool)
    top, left, bottom, right = corners
    mask[top:bottom, left:right] = True
    return mask


def probability() -> np.ndarray:
    """Background 0.8 everywhere; in columns 1 to 3 class 1 has 0.6 and class 2 0.3, in columns 5 to 6 class 2 has 0.9."""
    values = np.empty((3, 6, 8), dtype=np.float32)
    values[0], values[1], values[2] = 0.8, 0.15, 0.05
    values[:, :, 1:4] = np.array([0.1, 0.6, 0.3])[:, None, None]
    values[:, :, 5:7] = np.array([0.05, 0.05, 0.9])[:, None, None]
    return values


def test_each_mask_has_its_likeliest_class_and_the_product_of_the_scores() -> None:
    masks = [box(0, 1, 6, 4), box(0, 5, 6, 7), box(2, 3, 3, 6), np.zeros((6, 8), dtype=bool)]
    proposals = Proposals([encode_mask(mask) for mask in masks], np.array([0.9, 0.5, 0.4, 0.3]), (6, 8))
    found = classify_masks(proposals, probability())
    # the third: one column each of class 1 (0.6, 0.3), of nothing (0.15, 0.05) and of class 2 (0.05, 0.9)
    assert found.classes.tolist() == [1, 2, 2, 1]
    assert found.scores == pytest.approx([0.9 * 0.6, 0.5 * 0.9, 0.4 * (0.3 + 0.05 + 0.9) / 3, 0], rel=1e-6)
    assert [decode_mask(mask).sum() for mask in found.masks] == [18, 12, 3, 0]
    rows = found.to_coco(7, [18, 44])
    assert [row["category_id"] for row in rows] == [18, 44, 44, 18] and rows[0]["image_id"] == 7
    assert classify_masks(Proposals([], np.zeros(0), (6, 8)), probability()).to_coco(7, [18, 44]) == []


def test_means_are_those_over_the_painted_masks() -> None:
    random = np.random.default_rng(0)
    values = random.random((5, 13, 9)).astype(np.float32)
    masks = [random.random((13, 9)) < share for share in (0.0, 0.1, 0.5, 0.9, 1.0)]
    means = average_inside([encode_mask(mask) for mask in masks], values)
    assert not means[0].any()
    for mean, mask in zip(means[1:], masks[1:], strict=True):
        assert mean == pytest.approx(values[:, mask].astype(np.float64).mean(1), abs=1e-12)


def test_a_sure_class_can_overtake_a_better_mask() -> None:
    proposals = Proposals(
        [encode_mask(box(0, 1, 6, 4)), encode_mask(box(0, 5, 6, 7))], np.array([0.8, 0.7]), (6, 8)
    )
    found = classify_masks(proposals, probability())
    assert found.classes.tolist() == [2, 1] and found.scores == pytest.approx([0.63, 0.48], rel=1e-6)
    assert (decode_mask(found.masks[0]) == box(0, 5, 6, 7)).all()


def test_the_background_is_no_class_of_a_mask() -> None:
    found = classify_masks(Proposals([encode_mask(box(0, 0, 6, 1))], np.array([1.0]), (6, 8)), probability())
    assert found.classes.tolist() == [1] and found.scores == pytest.approx([0.15], rel=1e-6)


def test_connected_parts_of_a_class() -> None:
    values = probability()
    values[:, 3] = np.array([1, 0, 0])[:, None]
    values[:, 0, 4] = [0.1, 0.2, 0.7]  # joins nothing of class 1, but is of class 2 and touches it
    found = class_components(values, 7)
    masks = [decode_mask(mask) for mask in found.masks]
    assert found.classes.tolist() == [2, 1] and [mask.sum() for mask in masks] == [7, 9]
    assert masks[0][0, 4] and found.scores == pytest.approx([(6 * 0.9 + 0.7) / 7, 0.6], rel=1e-6)
    assert len(class_components(values, 1).masks) == 4, "with the parts below the gap"
    nothing = class_components(np.stack([np.ones((6, 8)), np.zeros((6, 8))]), 1)
    assert nothing.masks == [] and len(nothing.scores) == 0


def test_touching_objects_of_one_class_are_one_part_and_of_two_are_two() -> None:
    values = np.zeros((3, 6, 8))
    values[1, :, :4] = values[2, :, 4:] = 1
    assert class_components(values, 1).classes.tolist() == [1, 2]
    values[1, :, 4:], values[2, :, 4:] = 1, 0
    assert class_components(values, 1).classes.tolist() == [1]


def test_pixels_that_touch_at_a_corner_are_connected() -> None:
    values = np.stack([1 - np.eye(6, 8), np.eye(6, 8)])
    (mask,) = class_components(values, 1).masks
    assert (decode_mask(mask) == np.eye(6, 8, dtype=bool)).all()


def test_probabilities_at_the_original_size_lie_between_the_cells() -> None:
    logits = FeatureMap(torch.randn(1, 4, 3, 4), 2)
    found = class_probability(logits, Geometry((6, 8), (6, 8)))
    assert found.shape == (4, 6, 8) and found.sum(0) == pytest.approx(np.ones((6, 8)), abs=1e-5)
    # pixels 1 and 2 lie a quarter and three quarters of the way from the first cell's centre to the second's
    between = (0.75 * logits.values[0, :, 0, 0] + 0.25 * logits.values[0, :, 0, 1]).softmax(0)
    assert found[:, 0, 1] == pytest.approx(between.numpy(), abs=1e-5)
    twice = class_probability(logits, Geometry((6, 8), (12, 16)))
    assert twice.shape == (4, 12, 16) and twice[:, 1, 1] == pytest.approx(
        logits.values[0, :, 0, 0].softmax(0).numpy(), abs=1e-5
    )
