"""Void is taken out of masks: parity with pycocotools on masks cleared by hand, and with what one can count."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rpe.metric.average_recall import BACKENDS, VOC_THRESHOLDS, average_recall, recall_table
from rpe.metric.instance_ap import instance_metrics, label_maps
from rpe.metric.void import find_known_areas, remove_void
from rpe.rle import decode_mask, encode_mask
from rpe.segment import select_instances
from rpe.structures import UserError

SIZE = (24, 30)


def scene(seed: int) -> tuple[dict, list[dict], np.ndarray]:
    """Two images, void in the first: boxes with a void border of two pixels, and masks that cover the border, miss it, or lie in it."""
    random = np.random.default_rng(seed)
    annotations: list[dict] = []
    rows = []
    void = np.zeros(SIZE, dtype=bool)
    for image in (1, 2):
        masks = []
        for top, left in ((1, 1), (1, 16), (13, 8)):
            whole, inside = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
            whole[top : top + 10, left : left + 12] = True
            inside[top + 2 : top + 8, left + 2 : left + 10] = True
            masks.append(inside)
            if image == 1:
                void |= whole & ~inside
            for shift in range(3):
                mask = np.roll(whole if random.random() < 0.5 else inside, shift, int(random.integers(2)))
                rows.append(
                    {
                        "image_id": image,
                        "category_id": 1,
                        "segmentation": encode_mask(mask),
                        "score": round(float(random.random()), 1),
                    }
                )
        for mask in masks:
            annotations.append(annotation(len(annotations) + 1, image, mask))
    annotations.append(annotation(len(annotations) + 1, 1, void) | {"iscrowd": 1, "void": True})
    rows.append({"image_id": 1, "category_id": 1, "segmentation": encode_mask(void), "score": 1.0})
    images = [{"id": image, "height": SIZE[0], "width": SIZE[1]} for image in (1, 2)]
    unique = {(row["image_id"], row["segmentation"]["counts"]): row for row in rows}
    return (
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]},
        list(unique.values()),
        void,
    )


def annotation(number: int, image: int, mask: np.ndarray) -> dict:
    area = float(mask.sum())
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": area,
        "bbox": [0, 0, 1, 1],
        "segmentation": encode_mask(mask),
    }


@pytest.mark.parametrize("seed", range(6))
def test_as_pycocotools_on_masks_cleared_by_hand(seed: int) -> None:
    truth, rows, void = scene(seed)
    cleared = [
        row | {"segmentation": encode_mask(decode_mask(row["segmentation"]) & ~void)}
        if row["image_id"] == 1
        else row
        for row in rows
    ]
    assert remove_void(truth, rows) == cleared
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = truth
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes([dict(row) for row in cleared]), "segm")
        evaluation.params.useCats, evaluation.params.maxDets, evaluation.params.iouThrs = (
            0,
            [1, 3, 100],
            VOC_THRESHOLDS,
        )
        evaluation.evaluate()
        evaluation.accumulate()
    wanted = evaluation.eval["recall"][:, 0]
    for backend in BACKENDS:
        np.testing.assert_array_equal(
            recall_table(truth, rows, VOC_THRESHOLDS, [1, 3, 100], backend)[:, 0], wanted[:, 0]
        )
    assert 0.2 < wanted[0, 0, 2] <= 1


def test_objects_and_their_own_pixels_under_the_void_are_found_at_every_overlap() -> None:
    truth, _, void = scene(0)
    rows = []
    for one in truth["annotations"][:3]:
        inside = decode_mask(one["segmentation"])
        rows_there, columns = np.nonzero(inside)
        grown = inside.copy()
        grown[rows_there.min() - 2 : rows_there.max() + 3, columns.min() - 2 : columns.max() + 3] = True
        assert (grown & ~inside & void).sum() == 72
        rows.append({"image_id": 1, "category_id": 1, "segmentation": encode_mask(grown), "score": 0.9})
    first = {
        **truth,
        "annotations": [one for one in truth["annotations"] if one["image_id"] == 1],
        "images": truth["images"][:1],
    }
    figures = average_recall(first, rows)
    assert figures["AR@10"] == figures["AR_voc@10"] == figures["AR@1000"] == 1
    assert instance_metrics(label_maps(first, rows, lambda one: select_instances(one, 0.5)))["AP90"] == 1
    # were it a crowd as any other, they would be found nowhere: 48 of 120 pixels
    crowd = {
        **first,
        "annotations": [
            {key: value for key, value in one.items() if key != "void"} for one in first["annotations"]
        ],
    }
    assert (
        average_recall(crowd, rows)["AR@10"] == 0
        and find_known_areas(crowd) == {}
        and remove_void(crowd, rows) is rows
    )


def test_a_mask_half_hidden_by_void_still_becomes_an_instance() -> None:
    """Void that another mask claimed first must not make one half taken."""
    truth, _, void = scene(0)
    inside = decode_mask(truth["annotations"][0]["segmentation"])
    rows = [
        {"image_id": 1, "category_id": 1, "segmentation": encode_mask(void), "score": 0.9},
        {"image_id": 1, "category_id": 1, "segmentation": encode_mask(inside | void), "score": 0.8},
    ]
    (_, found), _ = label_maps(truth, rows, lambda one: select_instances(one, 0.5))
    assert ((found > 0) == inside).all()


def test_a_broken_mask_is_named_by_its_row() -> None:
    truth, rows, _ = scene(0)
    rows[2] = rows[2] | {"segmentation": {"size": list(SIZE), "counts": "1P"}}
    with pytest.raises(UserError, match=r"segmentation.counts of result 2 \(image 1\) must be a valid"):
        average_recall(truth, rows)
