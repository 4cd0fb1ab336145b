"""Average recall against pycocotools called by hand, and against cases that one can count."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rpe.data.digits import DigitScenes
from rpe.metric.average_recall import average_recall
from rpe.structures import InputError, decode_mask, encode_mask


def truth_as_results(truth: dict) -> list[dict]:
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "segmentation": a["segmentation"], "score": 1.0}
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]


@pytest.fixture(scope="module")
def truth() -> dict:
    return DigitScenes("val", 12, 0).truth()


def test_the_truth_recalls_itself(truth: dict) -> None:
    figures = average_recall(truth, truth_as_results(truth))
    assert figures["AR@10"] == figures["AR@100"] == figures["AR@1000"] == figures["AR@100-small"] == 1.0
    assert figures["AR@1"] == pytest.approx(12 / len(truth["annotations"]))
    assert "AR@100-large" not in figures, "there is no large digit to recall"


def test_half_the_objects_are_half_the_recall_whatever_their_category(truth: dict) -> None:
    results = truth_as_results(truth)[::2]
    wanted = len(results) / len(truth["annotations"])
    assert average_recall(truth, [{**row, "category_id": 99} for row in results])["AR@100"] == pytest.approx(wanted)
    assert average_recall(truth, [])["AR@100"] == 0


def test_equal_to_pycocotools_by_hand(truth: dict, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    results = []
    for annotation in truth["annotations"]:
        mask = decode_mask(annotation["segmentation"])
        for shift in (0, 1, 2, 4):
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": 1,
                    "segmentation": encode_mask(np.roll(mask, shift, 1)),
                    "score": float(random.random()),
                }
            )
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(ground, ground.loadRes(json.loads(json.dumps(results))), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [1, 10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = average_recall(truth, results)
    assert [figures["AR@1"], figures["AR@10"], figures["AR@100"], figures["AR@100-small"]] == pytest.approx(list(evaluation.stats[6:10]), abs=1e-9)
    assert 0.2 < figures["AR@10"] < 1


def test_uncompressed_masks_are_scored_as_well(truth: dict) -> None:
    mask = decode_mask(truth["annotations"][0]["segmentation"]).flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(mask)) + 1
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    row = {"image_id": 1, "segmentation": {"size": [64, 64], "counts": counts}, "score": 1.0}
    assert average_recall(truth, [row])["AR@1"] == pytest.approx(1 / len(truth["annotations"]))


def test_crowds_are_no_objects(truth: dict) -> None:
    crowded = {**truth, "annotations": [{**a, "iscrowd": int(a["id"] == 1)} for a in truth["annotations"]]}
    assert average_recall(crowded, truth_as_results(crowded))["AR@1000"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 777}, "names image 777"),
        ({"score": float("nan")}, "score nan"),
        ({"segmentation": [[0, 0, 1, 1]]}, "no run-length mask"),
        ({"segmentation": encode_mask(np.ones((3, 3), dtype=bool))}, r"size \[3, 3\], but image 1 is \[64, 64\]"),
    ],
)
def test_wrong_results_are_named(truth: dict, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        average_recall(truth, [truth_as_results(truth)[0] | change])


def test_missing_keys_are_named(truth: dict) -> None:
    with pytest.raises(InputError, match="result 0 has no score"):
        average_recall(truth, [{"image_id": 1, "segmentation": {}}])
