"""The reader of annotation files: what it refuses, and that arrays give back every mask."""

import json
from pathlib import Path

import numpy as np
import pytest

from rpe.data.annotation import category_ids, compact, only_categories, read_truth
from rpe.data.annotation_check import run_length_of
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
        assert (decode_mask(arrays.mask(index, image)) == wanted).all() and wanted.sum() == annotation["area"]


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
        (lambda truth: truth["images"].append(truth["images"][0]), "names an image id twice: 1"),
        (lambda truth: truth["annotations"].append(truth["annotations"][2]), "names an annotation id twice: 3"),
        (lambda truth: truth["categories"].append({"id": 1, "name": "cat"}), "names a category id twice: 1"),
        (lambda truth: truth["annotations"][0].update(category_id=7), "annotation 1 in .* names category 7, which the file does not list"),
        (lambda truth: truth["annotations"][0].update(segmentation=[[400, 400, 420, 400, 420, 420]]), "annotation 1 in .* lies outside its image"),
        (lambda truth: truth["annotations"][0].update(segmentation=[[-20, 4, -2, 4, -2, 9]]), "spans x -20 to -2, the image 0 to 64"),
        (lambda truth: truth["annotations"][0].update(segmentation=[[4, 4, 90, 4, 9, 9]]), "spans x 4 to 90"),
        (lambda truth: truth["annotations"][0].update(segmentation=[[4, 4, 40, 4, 9, "a"]]), "a corner that is no number"),
        (lambda truth: truth["annotations"][0].update(segmentation=[[4, 4, 40, 4, 9, float("nan")]]), "a corner that is no number"),
        (lambda truth: truth["annotations"][1].update(segmentation={"size": [48, 64], "counts": [9, 9]}), "counts are not those of 48 x 64 pixels"),
        (lambda truth: truth["annotations"][1].update(segmentation={"size": [48, 64], "counts": "abc"}), "counts are not those of 48 x 64 pixels"),
        (lambda truth: truth["images"][0].update(height=0), r"image 1 in .* has the size \[0, 64\]"),
        (lambda truth: truth["categories"][0].pop("name"), "a category in .* has no name"),
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
