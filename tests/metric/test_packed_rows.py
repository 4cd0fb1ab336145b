"""Rows in columns are the rows of a list, and give its metrics."""

import pickle

import numpy as np
import pytest

from rpe.metric.average_recall import average_recall
from rpe.metric.calibration import scored_ious
from rpe.metric.class_ap import class_precision
from rpe.metric.instance_ap import instance_metrics, label_maps
from rpe.metric.packed_rows import PackedRows
from rpe.rle import encode_mask
from rpe.segment import select_instances
from rpe.structures import UserError

ROW = {
    "image_id": 5,
    "category_id": 2,
    "segmentation": {"size": [6, 9], "counts": "03c02"},
    "score": 0.1,
}


def test_rows_come_back() -> None:
    rows = [ROW, ROW | {"score": -1.5, "image_id": 2**62}, ROW | {"score": 1}]
    rows[1] = rows[1] | {"segmentation": {"size": [1, 2], "counts": ""}}
    packed = PackedRows(row | {"bbox": [1, 2, 3, 4], "file_name": None} for row in rows)
    assert list(packed) == rows == list(pickle.loads(pickle.dumps(packed)))
    assert len(packed) == 3 and packed[-1] == rows[2] and not PackedRows()
    with pytest.raises(IndexError):
        packed[3]
    assert packed.numbers.itemsize * len(packed.numbers) + 8 * len(packed.scores) == 48 * len(packed)


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": 5.0},
        {"image_id": True},
        {"image_id": 2**63},
        {"category_id": None},
        {"score": "0.1"},
        {"score": True},
        {"score": 10**400},
        {"segmentation": [[0, 0, 1, 1]]},
        {"segmentation": {"size": [6, 9], "counts": [1, 2]}},
        {"segmentation": {"size": [6, 9], "counts": "\u00e9"}},
        {"segmentation": {"size": [6], "counts": "1"}},
        {"segmentation": {"size": [6, 9.0], "counts": "1"}},
        {"segmentation": {"size": 6, "counts": "1"}},
        {"file_name": "x.png"},
    ],
)
def test_a_row_of_another_form_is_left_out(change: dict) -> None:
    packed = PackedRows([ROW])
    assert not packed.append(ROW | change) and packed.append(ROW) and list(packed) == [ROW, ROW]
    with pytest.raises(ValueError, match="rows must have a category, a score and a compressed mask"):
        PackedRows([ROW | change])


def test_what_is_no_row_is_left_out() -> None:
    assert not any(PackedRows().append(row) for row in (7, "row", None, [ROW], {}, {"score": 0.5}))


@pytest.mark.parametrize("void", [False, True])
def test_the_metrics_are_those_of_a_list(void: bool) -> None:
    random = np.random.default_rng(0)

    def mask() -> dict:
        row, column, height, width = random.integers(1, 12, 4)
        pixels = np.zeros((20, 24), dtype=bool)
        pixels[row : row + height, column : column + width] = True
        return encode_mask(pixels)

    truth = {
        "images": [{"id": 3 * image, "height": 20, "width": 24} for image in range(4)],
        "annotations": [
            {
                "id": number,
                "image_id": 3 * (number % 4),
                "category_id": 1 + number % 2,
                "segmentation": mask(),
                "area": 30.0,
                "bbox": [0, 0, 1, 1],
                "iscrowd": int(number == 7),
                "void": void and number == 7,
            }
            for number in range(12)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    rows = [
        {
            "image_id": 3 * int(random.integers(4)),
            "category_id": 1 + number % 2,
            "segmentation": mask(),
            "score": float(random.integers(9)) / 8,
        }
        for number in range(90)
    ]
    packed = PackedRows(rows)
    for backend in ("own", "pycocotools"):
        found = average_recall(truth, packed, backend)
        assert found == average_recall(truth, rows, backend) and found["AR@100"] > 0
    assert np.array_equal(scored_ious(truth, packed), scored_ious(truth, rows))
    precision = [class_precision(truth, some, {1: "a", 2: "b"}, "own") for some in (packed, rows)]
    assert np.array_equal(*precision) and precision[0].max() > 0
    maps = [
        instance_metrics(label_maps(truth, some, lambda proposals: select_instances(proposals, 0.5)))
        for some in (packed, rows)
    ]
    assert maps[0] == maps[1] and maps[0]["AP50"] >= 0
    again = PackedRows([*rows, rows[7]])
    with pytest.raises(UserError, match=r"result 90 \(image .*\) must be new, got result 7 again"):
        average_recall(truth, again)
