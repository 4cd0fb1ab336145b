"""The reader of annotation files: what it refuses, and that arrays give back every mask."""

import json
from pathlib import Path

import numpy as np
import pytest

from rpe.data.annotation import category_ids, compact, only_categories, read_truth, run_length_of
from rpe.structures import InputError, decode_mask


def file_of(coco_folder: Path) -> Path:
    return coco_folder / "annotations" / "instances_train2017.json"


def edit(file: Path, change) -> None:
    truth = json.loads(file.read_text())
    change(truth)
    file.write_text(json.dumps(truth))


def test_arrays_give_back_every_mask(coco_folder: Path) -> None:
    truth = read_truth(file_of(coco_folder))
    arrays = compact(truth)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    assert len(arrays) == 4 and arrays.first.tolist() == [0, 3, 7, 10, 10] and arrays.crowds.sum() == 1
    by_image = sorted(truth["annotations"], key=lambda annotation: annotation["image_id"])
    for index, annotation in enumerate(by_image):
        image = int(np.searchsorted(arrays.first, index, side="right")) - 1
        wanted = decode_mask(run_length_of(annotation["segmentation"], *sizes[annotation["image_id"]]))
        assert (arrays.mask(index, image) == wanted).all() and wanted.sum() == annotation["area"] == arrays.areas[index]


def test_categories(coco_folder: Path) -> None:
    truth = read_truth(file_of(coco_folder))
    assert category_ids(truth, None, "train_categories") == {1, 2} and category_ids(truth, ["brick"], "train_categories") == {2}
    assert {annotation["category_id"] for annotation in only_categories(truth, {2})["annotations"]} == {2}
    with pytest.raises(InputError, match="data.train_categories names 'cat', which is no category of the data: it has box, brick"):
        category_ids(truth, ["cat"], "train_categories")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth["annotations"].clear(), "holds no annotation at all"),
        (lambda truth: truth.pop("categories"), "has no categories"),
        (lambda truth: truth["annotations"][0].update(image_id=9), "names image 9, which the file does not list"),
        (lambda truth: truth["annotations"][1].update(segmentation={"size": [5, 5], "counts": [25]}), r"mask of size \[5, 5\]"),
        (lambda truth: truth["annotations"][1].update(segmentation=[]), "has no segmentation"),
        (lambda truth: truth["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "fewer than three corners"),
        (lambda truth: truth["annotations"][0].pop("area"), "an annotation in .* has no area"),
        (lambda truth: truth["images"][0].pop("height"), "an image in .* has no height"),
        (lambda truth: truth["images"].append(truth["images"][0]), "names an image id twice"),
    ],
)
def test_wrong_annotations_are_named(coco_folder: Path, change, message: str) -> None:
    edit(file_of(coco_folder), change)
    with pytest.raises(InputError, match=message):
        read_truth(file_of(coco_folder))


def test_annotations_that_are_no_json(coco_folder: Path) -> None:
    file_of(coco_folder).write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_truth(file_of(coco_folder))
