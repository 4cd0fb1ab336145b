"""Which images and rows a restriction to names leaves."""

import json
from pathlib import Path

import pytest

from rpe.structures import InputError
from rpe.task.predictions import of_names, only_images, only_rows, read_results

TRUTH = {
    "images": [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "y.png"}],
    "annotations": [{"id": 5, "image_id": 1}, {"id": 6, "image_id": 2}],
    "categories": [{"id": 1, "name": "thing"}],
}


def test_images_and_rows_of_names() -> None:
    assert of_names(TRUTH, None) is TRUTH
    some = of_names(TRUTH, ["y"])
    assert [image["id"] for image in some["images"]] == [2] == [a["image_id"] for a in some["annotations"]] and some["categories"] == TRUTH[
        "categories"
    ]
    assert only_images(TRUTH, {1})["annotations"] == [{"id": 5, "image_id": 1}]
    rows = [{"image_id": 1}, {"image_id": 2}, "no row", {}]
    assert only_rows(rows, some) == [{"image_id": 2}, "no row", {}], "what is no row stays, to be refused"
    assert only_rows([{"image_id": [1]}, {"image_id": True}], some) == [{"image_id": [1]}, {"image_id": True}]
    with pytest.raises(InputError, match="names holds 'z'"):
        of_names(TRUTH, ["z"])


def test_results_are_a_list_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"image_id": 1}]))
    assert read_results(tmp_path / "rows.json") == [{"image_id": 1}]
    with pytest.raises(InputError, match="nowhere.json does not exist"):
        read_results(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="is no file"):
        read_results(tmp_path)
    (tmp_path / "rows.json").write_text("{}")
    with pytest.raises(InputError, match="but holds an object with no key"):
        read_results(tmp_path / "rows.json")
