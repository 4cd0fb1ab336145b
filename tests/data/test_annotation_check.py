"""Run lengths against pycocotools; wrong entries are refused through the reader in tests/data/test_coco.py."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.data.annotation import read_truth
from rpe.data.annotation_check import check_ring, pixels_of, run_length_of, twice
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
    assert pixels_of([3, 4, 5]) == 12 and pixels_of(coco_mask.frPyObjects({"size": [3, 4], "counts": [3, 4, 5]}, 3, 4)["counts"].decode()) == 12
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
    for ring in ([-3.1, 0, 20, 0, 20, 20], [0, 0, 20, 0, 20, 23.1], [30.5, 0, 31, 0, 31, 5], [0, -2, 5, -2, 5, -0.5]):
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
        ("annotations", {"area": "9"}, "annotation 1 in .*json has the area 9"),
        ("annotations", {"iscrowd": 2}, r"annotation 1 in .*json has iscrowd 2: 0 \(an object\) or 1"),
        ("annotations", {"iscrowd": None}, "annotation 1 in .*json has iscrowd None"),
        ("annotations", {"iscrowd": [1]}, r"annotation 1 in .*json has iscrowd \[1\]"),
        ("annotations", {"id": None}, "an annotation in .*json has the id None: a whole number is wanted: .*'image_id': 1"),
        ("annotations", {"id": [1]}, r"an annotation in .*json has the id \[1\]"),
        ("annotations", {"image_id": [1]}, r"an annotation in .*json has the image_id \[1\]"),
        ("annotations", {"category_id": "1"}, "an annotation in .*json has the category_id '1'"),
        ("images", {"id": "1"}, "an image in .*json has the id '1'"),
        ("images", {"file_name": None}, "an image in .*json has the file_name None: text is wanted: {'id': 1"),
        ("categories", {"name": None}, "a category in .*json has the name None"),
    ],
)
def test_wrong_values_are_named_with_their_entry(coco_folder: Path, kind: str, change: dict, message: str) -> None:
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
