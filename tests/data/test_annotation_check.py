"""Borders of polygons and areas; wrong entries are refused through the reader in tests/data/test_coco.py."""

import json
import math
import re
from pathlib import Path

import pytest

from rpe.data import annotation_check
from rpe.data.annotation import read_split, read_truth
from rpe.data.annotation_check import check_ring, find_duplicate, measure_areas
from rpe.structures import UserError


def test_the_border_of_the_border() -> None:
    check_ring([-3, 0, 33, 0, 33, 23], (20, 30), "x")
    for ring in (
        [-3.1, 0, 20, 0, 20, 20],
        [0, 0, 20, 0, 20, 23.1],
        [30.5, 0, 31, 0, 31, 5],
        [0, -2, 5, -2, 5, -0.5],
    ):
        with pytest.raises(UserError, match="polygon of x must lie inside its image"):
            check_ring(ring, (20, 30), "x")
    assert find_duplicate([3, 1, 2, 1, 3]) == 1


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("annotations", {"area": None}, "annotation 1 in .*json must have an area >= 0 in pixels, got None"),
        ("annotations", {"area": math.nan}, "annotation 1 in .*json must have an area .* got nan"),
        ("annotations", {"area": math.inf}, "annotation 1 in .*json must have an area .* got inf"),
        ("annotations", {"area": -3.0}, "annotation 1 in .*json must have an area .* got -3.0"),
        ("annotations", {"area": "9"}, "annotation 1 in .*json must have an area .* got '9'"),
        (
            "annotations",
            {"iscrowd": 2},
            r"annotation 1 in .*json must have iscrowd 0 \(an object\) or 1 \(a crowd\), got 2",
        ),
        ("annotations", {"iscrowd": None}, "annotation 1 in .*json must have iscrowd .* got None"),
        ("annotations", {"iscrowd": [1]}, r"annotation 1 in .*json must have iscrowd .* got \[1\]"),
        (
            "annotations",
            {"id": None},
            "id of an annotation in .*json must be an integer, got None in .*'image_id': 1",
        ),
        ("annotations", {"id": [1]}, r"id of an annotation in .*json must be an integer, got \[1\]"),
        (
            "annotations",
            {"image_id": [1]},
            r"image_id of an annotation in .*json must be an integer, got \[1\]",
        ),
        (
            "annotations",
            {"category_id": "1"},
            "category_id of an annotation in .*json must be an integer, got '1'",
        ),
        ("images", {"id": "1"}, "id of an image in .*json must be an integer, got '1'"),
        (
            "images",
            {"file_name": None},
            "file_name of an image in .*json must be text, got None in {'id': 1",
        ),
        ("categories", {"name": None}, "name of a category in .*json must be text, got None"),
    ],
)
def test_wrong_values_are_named_with_their_entry(
    coco_folder: Path, kind: str, change: dict, message: str
) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth[kind][0] |= change
    file.write_text(json.dumps(truth))
    with pytest.raises(UserError, match=message) as refusal:
        read_truth(file)
    assert "\n" not in str(refusal.value)


def test_entries_that_are_none(coco_folder: Path) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    for kind, value, message in (
        ("images", [None], "an image in .*json must be an object with id, .*, got None"),
        ("categories", {"a": 1}, "categories in .*json must be a list, got one dict"),
    ):
        file.write_text(json.dumps(truth | {kind: value}))
        with pytest.raises(UserError, match=message):
            read_truth(file)


POLYGONS = [
    (
        [[5, 5, 25, 5, 25, 30, 5]],
        "polygon of X must be an even count of numbers, got 7",
    ),
    ([[5]], "polygon of X must be an even count of numbers, got 1"),
    (
        [[5, 5, 25, 5, 25, 30], [5, 5, 25, 5, 25, 30, 5]],
        "polygon 2 of 2 of X must be an even count of numbers, got 7",
    ),
    (
        [[[5, 5], [25, 5], [25, 30], [5, 30]]],
        r"polygon of X must be one flat list, got \[\[5, 5\], \[25, 5\].* Write \[x, y, x, y, ..\]",
    ),
    (
        [[5, 5, 25, 5, 25, 30], [[5, 5], [25, 5], [25, 30]]],
        "polygon 2 of 2 of X must be one flat list",
    ),
    (
        [[{"x": 1, "y": 2}, {"x": 5, "y": 2}, {"x": 5, "y": 9}]],
        "polygon of X must be one flat list, got .{'x': 1, 'y': 2}",
    ),
    (
        [[5, 5], [25, 5], [25, 30], [5, 30]],
        r"X must have a list of polygons .* a list of corner pairs .* Write \[\[x, y, x, y, ..\]\]",
    ),
    (
        [5, 5, 25, 5, 25, 30, 5, 30],
        r"X must have a list of polygons .* one flat list .* Write \[\[x, y, x, y, ..\]\]",
    ),
    ([5.5, 5, 25, 5], "X must have a list of polygons as segmentation, got one flat list"),
    ([[5, 5, 20, 25]], r"polygon of X must have 3 or more corners, got 2 \(a box\?\)"),
    ([[5, 5]], "polygon of X must have 3 or more corners, got 1"),
    ([[]], "polygon of X must have 3 or more corners, got 0"),
    ([[5, 5, 25, 5, 25, 30], []], "polygon 2 of 2 of X must have 3 or more corners, got 0"),
    (["5 5 25 5 25 30"], "polygon of X must be a list of numbers, got '5 5 25 5 25 30'"),
    ([None], "polygon of X must be a list of numbers, got 'None'"),
    ([[5, 5, 25, 5, 25, "30"]], "polygon of X must hold finite numbers, got '30'"),
    (["5", "5"], "polygon 1 of 2 of X must be a list of numbers, got '5'"),
    ([["5", "5", "25", "5", "25", "30"]], "polygon of X must hold finite numbers, got '5'"),
    ([[5, 5, 25, 5, None, 30]], "polygon of X must hold finite numbers, got 'None'"),
    ([[5, 5, 25, 5, [3], 30]], r"polygon of X must hold finite numbers, got '\[3\]'"),
    ([[5, 5, 25, 5, math.inf, 30]], "polygon of X must hold finite numbers, got 'inf'"),
    ([[5, 5, 25, 5, 10**400, 30]], "polygon of X must hold finite numbers, got '1000000"),
    (
        [[5, 5, 25, 5, 25, 30], [500, 5, 510, 5, 510, 9]],
        "polygon 2 of 2 of X must lie inside its image, x 0 to 64, got 500 to 510",
    ),
    (
        "5 5 25 5 25 30",
        "X must have polygons or a run-length mask as segmentation, got '5 5 25 5 25 30'",
    ),
    (7, "X must have polygons or a run-length mask as segmentation, got '7'"),
    ({"counts": [1, 2]}, "X must have a run-length mask of size and counts, got counts"),
    (
        {"size": [48.0, 64.0], "counts": [3072]},
        r"X must have a mask of the size of its image 1, \[48, 64\] .*, got \[48.0, 64.0\]",
    ),
    ({"size": 48, "counts": [3072]}, "X must have a mask of the size of its image 1, .*, got 48"),
    (
        {"size": [48, 64], "counts": [3071, True]},
        "X must have run-length counts of 48 x 64 pixels, got a damaged mask",
    ),
]


@pytest.mark.parametrize(("segmentation", "message"), POLYGONS)
def test_what_is_wrong_with_a_mask_is_named_with_its_ring(
    coco_folder: Path, segmentation: object, message: str
) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["segmentation"] = segmentation
    file.write_text(json.dumps(truth))
    with pytest.raises(UserError, match=message.replace("X", "annotation 1 in .*json", 1)) as refusal:
        read_truth(file)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_polygon_whose_corners_lie_on_a_line_is_empty_or_a_line(coco_folder: Path) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 15, 5]]
    file.write_text(json.dumps(truth))
    with pytest.raises(
        UserError,
        match=r"annotation 1 in .* must have a mask with a pixel, got an empty one \(all corners of its polygons lie on a line\)",
    ):
        read_split(file, None, "train_categories", skip_empty=False)


def boxes(file: Path, sides: list[int], areas: list[float], crowds: int = 0) -> dict:
    """Squares of these sides with any `area`; the last ones are crowds."""
    annotations = [
        {
            "id": 1 + k,
            "image_id": 1,
            "category_id": 1,
            "area": area,
            "segmentation": [[0, 0, side, 0, side, side, 0, side]],
        }
        | {"iscrowd": int(k >= len(sides) - crowds)}
        for k, (side, area) in enumerate(zip(sides, areas, strict=True))
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 60, "width": 60}]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    file.write_text(json.dumps(truth))
    return truth


@pytest.mark.parametrize(
    ("sides", "areas", "expected"),
    [
        (
            [10, 20, 30],
            [1.0, 1.0, 1.0],
            "far from the pixels of 3 of 3 masks of .*annotation 1: 1, its mask 100",
        ),
        ([10, 20, 30], [0, 0, 0], "far from the pixels of 3 of 3"),
        ([10, 20, 30], [100, 1, 900], "far from the pixels of 1 of 3 masks .*annotation 2: 1, its mask 400"),
        ([10, 20, 30], [0.01, 0.04, 0.09], "far from the pixels of 3 of 3"),
        ([10, 20, 30], [400, 1600, 3600], "far from the pixels of 3 of 3"),
        ([10, 12, 14], [140, 140, 140], "is 140 in all of .*, whose masks differ in size"),
        ([10, 20, 30], [100, 400, 900], None),
        ([10, 20, 30], [90, 440.5, 800], None),
        ([10, 10, 10], [100, 100, 100], None),
        ([3, 4], [1, 2], None),
        ([10], [100], None),
        ([10], [1], "far from the pixels of 1 of 1"),
        ([10, 30], [100, 1], None),
    ],
)
def test_an_area_that_is_a_placeholder_is_told(
    tmp_path: Path,
    sides: list[int],
    areas: list[float],
    expected: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    boxes(tmp_path / "a.json", sides, areas, crowds=int(sides == [10, 30]))
    for _ in range(2):
        read_split(tmp_path / "a.json", None, "train_categories", skip_empty=False)
    lines = capsys.readouterr().err.splitlines()
    assert (
        not lines
        if expected is None
        else len(lines) == 1 and re.search(f"note: the field area .*{expected}.* AR by size", lines[0])
    ), lines


def test_of_many_masks_a_sample_is_drawn_and_all_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = boxes(tmp_path / "a.json", [10] * 100, [100.0] * 99 + [2.0])
    assert list(measure_areas(truth)) == list(range(100))
    monkeypatch.setattr(annotation_check, "MAX_DECODED_MASKS", 50)
    monkeypatch.setattr(annotation_check, "SAMPLE_SIZE", 10)
    assert list(measure_areas(truth)) == [*range(0, 100, 10), 99]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "images",
            {"height": True},
            r"image 1 in .* must have height and width as integers > 0, got \[True, 64\]",
        ),
        ("images", {"height": 48.0}, r"as integers > 0, got \[48.0, 64\]"),
        ("images", {"height": "48"}, r"as integers > 0, got \['48', 64\]"),
        (
            "images",
            {"height": 10**9, "width": 10**9},
            r"must have fewer than 2,147,483,648 pixels, got \[1000000000, 1000000000\]",
        ),
        (
            "images",
            {"id": 2**63},
            "id of an image in .* must be an integer of 64 bits, got 9223372036854775808",
        ),
        ("annotations", {"id": True}, "id of an annotation in .* must be an integer, got True"),
        ("annotations", {"image_id": 1.0}, "image_id of an annotation in .* must be an integer, got 1.0"),
        ("annotations", {"area": 10**400}, "must have an area .* got 10000"),
        ("annotations", {"area": True}, "must have an area .* got True"),
        (
            "images",
            {"file_name": "a\0"},
            "file_name of an image in .* must hold characters alone, got 'a.x00'",
        ),
        (
            "images",
            {"file_name": "\ud800.png"},
            r"must hold characters alone, got '.ud800.png'",
        ),
        ("categories", {"name": "\udfff"}, "name of a category in .* must hold characters alone"),
        ("images", {"file_name": "x" * 9000}, None),
    ],
)
def test_numbers_and_names_that_arrays_and_files_cannot_hold(
    coco_folder: Path, kind: str, change: dict, message: str | None
) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth[kind][0] |= change
    file.write_text(json.dumps(truth))
    if message is None:
        read_truth(file)
        return
    with pytest.raises(UserError, match=message) as refusal:
        read_truth(file)
    assert len(str(refusal.value)) < 400
