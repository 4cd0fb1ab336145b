"""Pictures and notes of an evaluation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import rpe.run
import rpe.task.instance_result
from rpe.data.module import SplitData
from rpe.rle import encode_mask
from rpe.task.instance_result import InstanceResult, format_rows


@pytest.mark.parametrize(
    ("name", "split", "images", "categories", "wanted"),
    [
        ("coco", "val", 5000, None, {"AR"}),
        ("coco", "val", 79, None, set()),
        ("coco", "val", 5000, ["thing"], set()),
        ("coco", "train", 5000, None, set()),
        ("voc", "test", 1449, None, {"AR_voc"}),
        ("voc", "val", 3, None, set()),
        ("mine", "val", 5000, None, set()),
    ],
)
def test_published_points_stand_where_the_data_are_theirs_and_whole(
    name: str,
    split: str,
    images: int,
    categories: list | None,
    wanted: set,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    drawn: dict[str, list] = {}
    monkeypatch.setattr(
        rpe.task.instance_result,
        "draw_recall",
        lambda overlaps, numbers, published, protocol, file: drawn.update({protocol: published}),
    )
    mask = encode_mask(np.eye(8, dtype=bool))
    truth = {
        "images": [{"id": number, "height": 8, "width": 8} for number in range(1, images + 1)],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": mask,
                "area": 8.0,
                "bbox": [0, 0, 8, 8],
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    result = InstanceResult(
        {}, truth, [{"image_id": 1, "category_id": 1, "segmentation": mask, "score": 1.0}], ours=True
    )
    data = SplitData(name, batch_size=1, eval_batch_size=1, num_workers=0, seed=0)
    data.eval_categories = categories
    result.draw(tmp_path, data, split)
    assert {protocol for protocol, published in drawn.items() if published} == wanted and set(drawn) == {
        "AR",
        "AR_voc",
    }


def test_the_rows_of_a_run_are_written_one_by_one() -> None:
    for rows in ([], rows_of_scores(0.1), rows_of_scores(0.1, 2, -3e-9)):
        assert "".join(format_rows(rows)) == json.dumps(rows)


def rows_of_scores(*scores: float) -> list[dict]:
    return [{"image_id": 1, "score": score} for score in scores]


@pytest.mark.parametrize(
    ("rows", "ours", "figures", "wanted"),
    [
        (
            rows_of_scores(-4.1, -4.2),
            False,
            {"AR@1000": 0.85},
            [
                "no mask has a score of score_threshold 0.5 or more, the best has -4.1, so AP and PQ count none of 2"
            ],
        ),
        (
            rows_of_scores(0.3),
            True,
            {"AR@1000": 0.85},
            ["no mask has a score of proposal.score_threshold 0.5 or more, the best has 0.3"],
        ),
        (rows_of_scores(0.5, 0.1), False, {"AR@1000": 0.85}, []),
        (
            rows_of_scores(0.7),
            False,
            {"AR@1000": 0.0},
            ["no mask overlaps an object of its image by an IoU of 0.5. Check that image_id"],
        ),
        (rows_of_scores(-1), False, {"AR@1000": 0.0}, ["no mask has a score", "no mask overlaps an object"]),
        (rows_of_scores(0.7), True, {}, []),
        ([], False, {"AR@1000": 0.0}, ["the predictions hold no mask, so recall and precision are 0"]),
        (
            [],
            True,
            {"AR@1000": 0.0},
            ["the predictions hold no mask, so recall and precision are 0.*proposal.foreground"],
        ),
    ],
)
def test_figures_of_zero_are_explained(
    rows: list[dict], ours: bool, figures: dict[str, float], wanted: list[str]
) -> None:
    notes = InstanceResult(figures, {"images": []}, rows, ours, score_threshold=0.5).notes()
    assert len(notes) == len(wanted) and all(
        re.match(line, note) for line, note in zip(wanted, notes, strict=True)
    ), notes
