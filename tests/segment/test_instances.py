import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.segment import Instances
from rpe.structures import UserError


def found(categories: dict[int, str]) -> Instances:
    labels = np.zeros((6, 8), dtype=np.int32)
    labels[1:3, 2:7], labels[4:6, 0:2] = 1, 2
    classes = np.array([2, 1] if categories else [0, 0])
    return Instances(labels, np.array([0.9, 0.5]), classes, categories)


def test_areas_boxes_and_masks_are_those_of_the_labels() -> None:
    instances = found({})
    assert (
        len(instances) == 2
        and instances.areas.tolist() == [10, 4]
        and instances.boxes.tolist() == [[2, 1, 5, 2], [0, 4, 2, 2]]
    )
    for number, (mask, box) in enumerate(zip(instances.masks, instances.boxes, strict=True), start=1):
        assert (
            np.array_equal(coco_mask.decode(mask), instances.labels == number)
            and coco_mask.toBbox(mask).tolist() == box.tolist()
        )
    nothing = Instances(np.zeros((3, 4), dtype=np.int32), np.zeros(0), np.zeros(0, dtype=np.int64))
    assert (
        nothing.boxes.shape == (0, 4) and nothing.areas.tolist() == nothing.masks == nothing.to_coco(1) == []
    )


def test_rows_of_coco_have_the_categories_of_the_training() -> None:
    rows = found({17: "cat", 18: "dog"}).to_coco(7)
    assert [(row["image_id"], row["category_id"], row["score"], row["area"]) for row in rows] == [
        (7, 18, 0.9, 10),
        (7, 17, 0.5, 4),
    ]
    assert [row["category_id"] for row in found({}).to_coco(7)] == [1, 1]


def test_an_overlay_is_drawn_on_eight_bits_of_the_same_size() -> None:
    instances = found({})
    grey = np.full((6, 8), 100, dtype=np.uint8)
    drawn = instances.overlay(grey)
    assert (
        drawn.shape == (6, 8, 3)
        and (drawn[instances.labels == 0] == 100).all()
        and (drawn[1, 2] != 100).any()
    )
    for wrong in (grey[:5], grey.astype(np.uint16)):
        with pytest.raises(UserError, match="image must be uint8 of 6 x 8 pixels, got .* Use segmenter.read"):
            instances.overlay(wrong)
