"""The reader of annotation files: what it refuses, and that arrays give back every mask."""

import json
from pathlib import Path

import numpy as np
import pytest

from rpe.data.annotation import compact, find_category_ids, keep_categories, read_split, read_truth
from rpe.rle import compress, decode_mask
from rpe.structures import UserError


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
        wanted = decode_mask(compress(annotation["segmentation"], sizes[annotation["image_id"]]))
        assert (decode_mask(arrays.mask(index, image)) == wanted).all() and wanted.sum() == annotation["area"]


def test_categories(coco_folder: Path) -> None:
    truth = read_truth(file_of(coco_folder))
    assert find_category_ids(truth, None, "train_categories") == {1, 2} and find_category_ids(
        truth, ["brick"], "train_categories"
    ) == {2}
    assert {annotation["category_id"] for annotation in keep_categories(truth, {2})["annotations"]} == {2}
    with pytest.raises(
        UserError,
        match="data.train_categories must name categories of the data, got 'cat'. Choose among box, brick",
    ):
        find_category_ids(truth, ["cat"], "train_categories")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth["annotations"].clear(), "must hold an annotation, got none"),
        (lambda truth: truth.pop("categories"), "must have categories, got an object"),
        (
            lambda truth: truth["annotations"][0].update(image_id=9),
            "must have image_id of a listed image, got 9",
        ),
        (
            lambda truth: truth["annotations"][1].update(segmentation={"size": [5, 5], "counts": [25]}),
            r"must have a mask of the size of its image 1, .* got \[5, 5\]",
        ),
        (lambda truth: truth["annotations"][1].update(segmentation=[]), "must have a segmentation, got none"),
        (
            lambda truth: truth["annotations"][0].update(segmentation=[[1, 2, 3, 4]]),
            "must have 3 or more corners",
        ),
        (lambda truth: truth["annotations"][0].pop("area"), "an annotation in .* must have area"),
        (lambda truth: truth["images"][0].pop("height"), "an image in .* must have height"),
        (
            lambda truth: truth["images"].append(truth["images"][0]),
            "an image in .* must have an id of its own, got 1 twice",
        ),
        (
            lambda truth: truth["annotations"].append(truth["annotations"][2]),
            "an annotation in .* must have an id of its own, got 3 twice",
        ),
        (
            lambda truth: truth["categories"].append({"id": 1, "name": "cat"}),
            "a category in .* must have an id of its own, got 1 twice",
        ),
        (
            lambda truth: truth["annotations"][0].update(category_id=7),
            "annotation 1 in .* must have category_id of a listed category, got 7",
        ),
        (
            lambda truth: truth["annotations"][0].update(segmentation=[[400, 400, 420, 400, 420, 420]]),
            "polygon of annotation 1 in .* must lie inside its image",
        ),
        (
            lambda truth: truth["annotations"][0].update(segmentation=[[-20, 4, -2, 4, -2, 9]]),
            "x 0 to 64, got -20 to -2",
        ),
        (lambda truth: truth["annotations"][0].update(segmentation=[[4, 4, 90, 4, 9, 9]]), "got 4 to 90"),
        (
            lambda truth: truth["annotations"][0].update(segmentation=[[4, 4, 40, 4, 9, "a"]]),
            "must hold finite numbers",
        ),
        (
            lambda truth: truth["annotations"][0].update(segmentation=[[4, 4, 40, 4, 9, float("nan")]]),
            "must hold finite numbers",
        ),
        (
            lambda truth: truth["annotations"][1].update(segmentation={"size": [48, 64], "counts": [9, 9]}),
            "must have run-length counts of 48 x 64 pixels",
        ),
        (
            lambda truth: truth["annotations"][1].update(segmentation={"size": [48, 64], "counts": "abc"}),
            "must have run-length counts of 48 x 64 pixels",
        ),
        (
            lambda truth: truth["images"][0].update(height=0),
            r"image 1 in .* must have height and width as integers > 0, got \[0, 64\]",
        ),
        (lambda truth: truth["categories"][0].pop("name"), "a category in .* must have name"),
    ],
)
def test_wrong_annotations_are_named(coco_folder: Path, change, message: str) -> None:
    edit(file_of(coco_folder), change)
    with pytest.raises(UserError, match=message):
        read_truth(file_of(coco_folder))


def test_annotations_that_are_no_json(coco_folder: Path) -> None:
    file_of(coco_folder).write_text("{")
    with pytest.raises(UserError, match="must be JSON"):
        read_truth(file_of(coco_folder))


def add(truth: dict, category: dict, place: int) -> dict:
    categories = truth["categories"].copy()
    categories.insert(place, category)
    return {**truth, "categories": categories}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_name_means_every_id_that_bears_it(
    coco_folder: Path, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = add(read_truth(file_of(coco_folder)), {"id": 7, "name": "box"}, place)
    merged["annotations"][0]["category_id"] = 7
    file_of(coco_folder).write_text(json.dumps(merged))
    assert find_category_ids(merged, None, "train_categories") == {1, 2, 7} and find_category_ids(
        merged, ["box"], "train_categories"
    ) == {1, 7}
    for names, count in ((None, 10), (["box"], 7), (["brick"], 3), (["brick", "box"], 10)):
        truth, chosen = read_split(file_of(coco_folder), names, "train_categories", skip_empty=False)
        assert (
            sum(annotation["category_id"] in chosen for annotation in truth["annotations"])
            == len(truth["annotations"])
            == count
        )
    lines = capsys.readouterr().err.splitlines()
    assert (
        len(lines) == 1
        and "category names repeat" in lines[0]
        and f"'box' is {'7, 1' if place == 0 else '1, 7'}" in lines[0]
    )


@pytest.mark.parametrize("place", [0, 2])
def test_a_root_category_with_the_name_of_its_only_class(coco_folder: Path, place: int) -> None:
    """As some exporters write it, first or last, with no object of its own."""

    def rooted(truth: dict) -> None:
        truth["categories"] = add(
            {"categories": [{"id": 1, "name": "cells", "supercategory": "cells"}]},
            {"id": 0, "name": "cells"},
            place,
        )["categories"]
        for annotation in truth["annotations"]:
            annotation["category_id"] = 1

    edit(file_of(coco_folder), rooted)
    for names in (None, ["cells"]):
        assert (
            len(
                read_split(file_of(coco_folder), names, "eval_categories", skip_empty=False)[0]["annotations"]
            )
            == 10
        )


def test_names_of_categories_are_compared_by_what_they_look_like(coco_folder: Path) -> None:
    truth = {
        "categories": [
            {"id": 4, "name": "ze\u0301bre"},
            {"id": 5, "name": "z\u00e9bre"},
            {"id": 6, "name": "Z\u00e9bre"},
        ]
    }
    for name in ("ze\u0301bre", "z\u00e9bre"):
        assert find_category_ids(truth, [name], "train_categories") == {4, 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON, got an empty file. Complete the download"),
        (b" \n", "must be JSON, got an empty file"),
        (
            b'{"images": [',
            "a file that ends too early .Expecting value at line 1, column 13.. Complete the download",
        ),
        (b'{"images": [1 2]}', "Expecting ',' delimiter at line 1, column 15"),
        (
            b'{"id": 1}\n{"id": 2}\n',
            "a second value after the first .Extra data at line 2, column 1.. Write one list, not one object a line",
        ),
        (b"<!DOCTYPE html>", "text that begins with '<', as HTML"),
        (b"\x1f\x8b\x08\x00abc", "a gzip file. Unpack it"),
        (b"PK\x03\x04\xff\xfe", "a ZIP file. Unpack it"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"PK\x03\x04abc", "a ZIP file. Unpack it"),
        ('{"name": "\u00e9"}'.encode("latin-1"), "text not in UTF-8 .* at byte 10.. Save it as UTF-8"),
        (b"[" * 100_000, "must nest lists less than some hundred levels deep"),
        (b"1" * 5000, "must be JSON, got an error .Exceeds the limit"),
        (
            b"[1, 2]",
            "must hold images, annotations and categories, got a list of 2. .* COCO's instance format",
        ),
        (b'"abc"', 'got "abc". Export'),
        (b"null", "got null. Export"),
        (
            b'{"images": [], "annotations": []}',
            "must have categories, got an object with 'images', 'annotations'",
        ),
        (b"{}", "must have images, got an object with no key"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        read_truth(tmp_path / "a.json")
    assert "\n" not in str(refusal.value)


def test_json_with_a_mark_of_its_encoding_is_read(coco_folder: Path) -> None:
    text = file_of(coco_folder).read_text()
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        file_of(coco_folder).write_text(text, encoding=encoding)
        assert len(read_truth(file_of(coco_folder))["images"]) == 4


@pytest.mark.parametrize("name", ["{}", "./{}", "a/../{}"])
def test_one_file_in_two_images_is_refused(coco_folder: Path, name: str) -> None:
    def twice(truth: dict) -> None:
        truth["images"][3]["file_name"] = name.format(truth["images"][1]["file_name"])

    edit(file_of(coco_folder), twice)
    with pytest.raises(
        UserError, match="file_name in .* must be unique, got .* for images 2 and 4. Make them one entry"
    ):
        read_truth(file_of(coco_folder))


def test_one_file_that_is_spelled_in_two_ways_is_one(coco_folder: Path) -> None:
    def twice(truth: dict) -> None:
        truth["images"][0]["file_name"], truth["images"][3]["file_name"] = "\u00e9.png", "e\u0301.png"

    edit(file_of(coco_folder), twice)
    with pytest.raises(UserError, match="file_name in .* must be unique, got .* for images 1 and 4"):
        read_truth(file_of(coco_folder))
