"""Run lengths against pycocotools; wrong entries are refused through the reader in tests/data/test_coco.py."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.data import annotation_check
from rpe.data.annotation import read_split, read_truth
from rpe.data.annotation_check import check_ring, drawn_areas, pixels_of, run_length_of, twice
from rpe.structures import UserError


def test_pixels_of_run_lengths() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width = random.integers(1, 400, 2)
        mask = random.random((height, width)) < random.choice([0.001, 0.1, 0.5, 0.99])
        counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
        assert pixels_of(counts) == height * width
        if len(counts) > 4:
            assert pixels_of(counts[:-2]) != height * width
    assert (
        pixels_of([3, 4, 5]) == 12
        and pixels_of(coco_mask.frPyObjects({"size": [3, 4], "counts": [3, 4, 5]}, 3, 4)["counts"].decode())
        == 12
    )
    for wrong in ([-1, 13], [1.5], "", "P", "\x01", "\u00e4", None, 3, "o" * 20 + "0"):
        assert pixels_of(wrong) == -1 or pixels_of(wrong) == 0


def test_three_ways_to_write_a_mask() -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[4:10, 5:15] = 1
    compressed = coco_mask.encode(np.asfortranarray(mask))
    flat = mask.flatten(order="F")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    for code in (
        [[5, 4, 15, 4, 15, 10, 5, 10]],
        {"size": [20, 30], "counts": np.diff(edges).tolist()},
        {"size": [20, 30], "counts": compressed["counts"].decode()},
    ):
        assert (coco_mask.decode(run_length_of(code, 20, 30)) == mask).all()


def test_the_border_of_the_border() -> None:
    check_ring([-3, 0, 33, 0, 33, 23], (20, 30), "x")
    for ring in (
        [-3.1, 0, 20, 0, 20, 20],
        [0, 0, 20, 0, 20, 23.1],
        [30.5, 0, 31, 0, 31, 5],
        [0, -2, 5, -2, 5, -0.5],
    ):
        with pytest.raises(UserError, match="x lies outside its image"):
            check_ring(ring, (20, 30), "x")
    assert twice([3, 1, 2, 1, 3]) == 1


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("annotations", {"area": None}, "annotation 1 in .*json has the area None: a number of pixels"),
        ("annotations", {"area": math.nan}, "annotation 1 in .*json has the area nan"),
        ("annotations", {"area": math.inf}, "annotation 1 in .*json has the area inf"),
        ("annotations", {"area": -3.0}, "annotation 1 in .*json has the area -3.0"),
        ("annotations", {"area": "9"}, "annotation 1 in .*json has the area '9'"),
        ("annotations", {"iscrowd": 2}, r"annotation 1 in .*json has iscrowd 2: 0 \(an object\) or 1"),
        ("annotations", {"iscrowd": None}, "annotation 1 in .*json has iscrowd None"),
        ("annotations", {"iscrowd": [1]}, r"annotation 1 in .*json has iscrowd \[1\]"),
        (
            "annotations",
            {"id": None},
            "an annotation in .*json has the id None: a whole number is wanted: .*'image_id': 1",
        ),
        ("annotations", {"id": [1]}, r"an annotation in .*json has the id \[1\]"),
        ("annotations", {"image_id": [1]}, r"an annotation in .*json has the image_id \[1\]"),
        ("annotations", {"category_id": "1"}, "an annotation in .*json has the category_id '1'"),
        ("images", {"id": "1"}, "an image in .*json has the id '1'"),
        (
            "images",
            {"file_name": None},
            "an image in .*json has the file_name None: text is wanted: {'id': 1",
        ),
        ("categories", {"name": None}, "a category in .*json has the name None"),
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
        ("images", [None], "an image in .*json is None: a set of keys"),
        ("categories", {"a": 1}, "holds no list of categories"),
    ):
        file.write_text(json.dumps(truth | {kind: value}))
        with pytest.raises(UserError, match=message):
            read_truth(file)


POLYGONS = [
    (
        [[5, 5, 25, 5, 25, 30, 5]],
        "a polygon with an odd count of numbers: its polygon has 7, x and y in turns",
    ),
    ([[5]], "odd count of numbers: its polygon has 1,"),
    ([[5, 5, 25, 5, 25, 30], [5, 5, 25, 5, 25, 30, 5]], "odd count of numbers: its polygon 2 of 2 has 7"),
    (
        [[[5, 5], [25, 5], [25, 30], [5, 30]]],
        r"pairs or lists within a polygon: its polygon is \[\[5, 5\], \[25, 5\].*, write x, y, x, y, .. in one flat list",
    ),
    (
        [[5, 5, 25, 5, 25, 30], [[5, 5], [25, 5], [25, 30]]],
        "pairs or lists within a polygon: its polygon 2 of 2 is",
    ),
    (
        [[{"x": 1, "y": 2}, {"x": 5, "y": 2}, {"x": 5, "y": 9}]],
        "pairs or lists within a polygon: its polygon is .{'x': 1, 'y': 2}",
    ),
    ([[5, 5], [25, 5], [25, 30], [5, 30]], r"it is a list of corner pairs, write \[\[x, y, x, y, ..\]\]"),
    ([5, 5, 25, 5, 25, 30, 5, 30], r"it is one flat list, write a list of polygons, \[\[x, y, x, y, ..\]\]"),
    ([5.5, 5, 25, 5], "it is one flat list"),
    ([[5, 5, 20, 25]], r"fewer than three corners: its polygon has 2 \(a box\?\)"),
    ([[5, 5]], "fewer than three corners: its polygon has 1"),
    ([[]], "fewer than three corners: its polygon has 0"),
    ([[5, 5, 25, 5, 25, 30], []], "fewer than three corners: its polygon 2 of 2 has 0"),
    (["5 5 25 5 25 30"], "has no list of numbers: its polygon is '5 5 25 5 25 30'"),
    ([None], "has no list of numbers: its polygon is 'None'"),
    ([[5, 5, 25, 5, 25, "30"]], "a corner that is no number: its polygon holds '30'"),
    (["5", "5"], "has no list of numbers: its polygon 1 of 2 is '5'"),
    ([["5", "5", "25", "5", "25", "30"]], "a corner that is no number: its polygon holds '5'"),
    ([[5, 5, 25, 5, None, 30]], "a corner that is no number: its polygon holds 'None'"),
    ([[5, 5, 25, 5, [3], 30]], r"a corner that is no number: its polygon holds '\[3\]'"),
    ([[5, 5, 25, 5, math.inf, 30]], "a corner that is no number: its polygon holds 'inf'"),
    ([[5, 5, 25, 5, 10**400, 30]], "a corner that is no number: its polygon holds '1000000"),
    (
        [[5, 5, 25, 5, 25, 30], [500, 5, 510, 5, 510, 9]],
        "lies outside its image: its polygon 2 of 2 spans x 500 to 510, the image 0 to 64",
    ),
    (
        "5 5 25 5 25 30",
        "has the segmentation '5 5 25 5 25 30': a list of polygons or a run-length mask is wanted",
    ),
    (7, "has the segmentation '7'"),
    ({"counts": [1, 2]}, "a run-length mask without size or counts"),
    (
        {"size": [48.0, 64.0], "counts": [3072]},
        r"a mask of size \[48.0, 64.0\], but its image 1 is \[48, 64\]",
    ),
    ({"size": 48, "counts": [3072]}, "a mask of size 48, but its image 1"),
    ({"size": [48, 64], "counts": [3071, True]}, "counts are not those of 48 x 64 pixels"),
]


@pytest.mark.parametrize(("segmentation", "message"), POLYGONS)
def test_what_is_wrong_with_a_mask_is_named_with_its_ring(
    coco_folder: Path, segmentation: object, message: str
) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["segmentation"] = segmentation
    file.write_text(json.dumps(truth))
    with pytest.raises(UserError, match=f"annotation 1 in .*json .*{message}") as refusal:
        read_truth(file)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_polygon_whose_corners_lie_on_a_line_is_empty_or_a_line(coco_folder: Path) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 15, 5]]
    file.write_text(json.dumps(truth))
    with pytest.raises(
        UserError,
        match="annotation 1 in .* has a mask without a pixel: .*; all corners of its polygons lie on a line",
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
    ("sides", "areas", "said"),
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
    tmp_path: Path, sides: list[int], areas: list[float], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes(tmp_path / "a.json", sides, areas, crowds=int(sides == [10, 30]))
    for _ in range(2):
        read_split(tmp_path / "a.json", None, "train_categories", skip_empty=False)
    lines = capsys.readouterr().err.splitlines()
    assert (
        not lines
        if said is None
        else len(lines) == 1 and re.search(f"note: the field area .*{said}.* AR by size", lines[0])
    ), lines


def test_of_many_masks_a_sample_is_drawn_and_all_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = boxes(tmp_path / "a.json", [10] * 100, [100.0] * 99 + [2.0])
    assert list(drawn_areas(truth)) == list(range(100))
    monkeypatch.setattr(annotation_check, "MASKS_DRAWN", 50)
    monkeypatch.setattr(annotation_check, "SAMPLED", 10)
    assert list(drawn_areas(truth)) == [*range(0, 100, 10), 99]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("images", {"height": True}, r"image 1 in .* has the size \[True, 64\]: whole numbers"),
        ("images", {"height": 48.0}, r"has the size \[48.0, 64\]: whole numbers"),
        ("images", {"height": "48"}, r"has the size \['48', 64\]: whole numbers"),
        (
            "images",
            {"height": 10**9, "width": 10**9},
            r"has the size \[1000000000, 1000000000\]: 2,147,483,648 pixels or more",
        ),
        (
            "images",
            {"id": 2**63},
            "an image in .* has the id 9223372036854775808: a whole number of at most 64 bits",
        ),
        ("annotations", {"id": True}, "an annotation in .* has the id True: a whole number"),
        ("annotations", {"image_id": 1.0}, "an annotation in .* has the image_id 1.0: a whole number"),
        ("annotations", {"area": 10**400}, "has the area 10000"),
        ("annotations", {"area": True}, "has the area True"),
        ("images", {"file_name": "a\0"}, "has the file_name 'a.x00': it holds what is no character"),
        (
            "images",
            {"file_name": "\ud800.png"},
            r"has the file_name '.ud800.png': it holds what is no character",
        ),
        ("categories", {"name": "\udfff"}, "a category in .* it holds what is no character"),
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
