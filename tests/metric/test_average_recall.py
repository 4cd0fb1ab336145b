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
from rpe.metric.average_recall import (
    AREAS,
    BACKENDS,
    COCO_THRESHOLDS,
    VOC_THRESHOLDS,
    average_recall,
    recall_table,
)
from rpe.rle import decode_mask, encode_mask
from rpe.structures import UserError

SIZES = {"all": (0, 1e10), "small": (0, 150), "medium": (150, 300), "large": (300, 1e10)}


def truth_as_results(truth: dict) -> list[dict]:
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "segmentation": a["segmentation"],
            "score": 1.0,
        }
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]


@pytest.fixture(scope="module")
def truth() -> dict:
    return DigitScenes("val", 12, 0).truth()


def test_the_truth_recalls_itself(truth: dict) -> None:
    figures = average_recall(truth, truth_as_results(truth))
    assert (
        figures["AR@10"]
        == figures["AR@100"]
        == figures["AR@1000"]
        == figures["AR@100-small"]
        == figures["AR@1000-small"]
        == 1.0
    )
    assert figures["AR@1"] == pytest.approx(12 / len(truth["annotations"]))
    assert "AR@100-large" not in figures, "there is no large digit to recall"


def test_half_the_objects_are_half_the_recall_whatever_their_category(truth: dict) -> None:
    results = truth_as_results(truth)[::2]
    wanted = len(results) / len(truth["annotations"])
    assert average_recall(truth, [{**row, "category_id": 9} for row in results])["AR@100"] == pytest.approx(
        wanted
    )
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
    assert [figures["AR@1"], figures["AR@10"], figures["AR@100"], figures["AR@100-small"]] == pytest.approx(
        list(evaluation.stats[6:10]), abs=1e-9
    )
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


def blob(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A box, or an ellipse, anywhere; sometimes beyond the border."""
    rows, columns = np.indices(size)
    centre, reach = random.integers(0, size), random.integers(1, 14, 2)
    away = np.abs(np.stack([rows - centre[0], columns - centre[1]])) / reach[:, None, None]
    return (away.max(0) < 1) if random.random() < 0.5 else ((away**2).sum(0) < 1)


def any_case(seed: int, masks: int = 40) -> tuple[dict, list[dict]]:
    """Overlapping objects, crowds, areas that are not the masks', images without objects or masks, ties, categories out of order, an id of 0."""
    random, kinds = np.random.default_rng(seed), np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for number in (4, 2, 9, 5):
        size = tuple(int(length) for length in random.integers(20, 48, 2))
        images.append({"id": number, "height": size[0], "width": size[1]})
        objects = [blob(random, size) for _ in range(random.integers(0, 7))]
        for mask in objects:
            crowd = int(random.random() < 0.2)
            area = float(mask.sum()) * random.choice([1, 1, 0.5, 1.7])
            code = encode_mask(mask)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": int(random.choice([7, 3])),
                    "iscrowd": crowd,
                    "area": area,
                    "bbox": [0, 0, 1, 1],
                    "segmentation": code,
                }
            )
        candidates = [
            np.roll(m, tuple(random.integers(-2, 3, 2)), (0, 1)) for m in objects for _ in range(4)
        ] + [m | n for m in objects for n in objects]
        candidates += [blob(random, size) for _ in range(5)]
        random.shuffle(candidates)
        chosen = {encode_mask(mask)["counts"] for mask in candidates[: random.integers(0, masks)]}
        for counts in sorted(chosen):
            score = round(float(random.random()), 1)
            results.append(
                {
                    "image_id": number,
                    "category_id": int(kinds.choice([7, 3])),
                    "segmentation": {"size": list(size), "counts": counts},
                    "score": score,
                }
            )
    random.shuffle(results)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}],
    }, results


def by_hand(truth: dict, results: list[dict], thresholds: np.ndarray, limits: list[int]) -> np.ndarray:
    """pycocotools, driven from here."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        # to pycocotools an object whose id is 0 is never found
        ground.dataset = {
            **truth,
            "annotations": [annotation | {"id": annotation["id"] + 1} for annotation in truth["annotations"]],
        }
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes([dict(row) for row in results]), "segm")
        evaluation.params.useCats, evaluation.params.maxDets, evaluation.params.iouThrs = (
            0,
            limits,
            thresholds,
        )
        evaluation.params.areaRng = [list(area) for area in SIZES.values()]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0]


def test_all_backends_give_pycocotools_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    for area, bounds in SIZES.items():
        monkeypatch.setitem(AREAS, area, bounds)
    limits = [1, 2, 5, 10, 1000]
    recalled = []
    for seed in range(60):
        truth, results = any_case(seed)
        if not results or not truth["annotations"]:
            continue
        wanted = by_hand(truth, results, VOC_THRESHOLDS, limits)
        for backend in BACKENDS:
            np.testing.assert_array_equal(
                recall_table(truth, results, VOC_THRESHOLDS, limits, backend),
                wanted,
                err_msg=f"{seed} {backend}",
            )
        recalled.append(wanted[:, 0, -1].mean())
    assert len(recalled) > 50 and 0.2 < np.mean(recalled) < 0.9


@pytest.mark.parametrize(("categories", "recall"), [((7, 3), 0.5), ((3, 7), 1.0)])
def test_of_two_equal_overlaps_the_later_category_is_taken(
    categories: tuple[int, int], recall: float
) -> None:
    """The first mask lies between two objects; if it takes the left one, the second, which is the left one, finds nothing at IoU 0.8."""
    spans = {"left": (0, 10), "right": (2, 12), "between": (1, 11)}
    masks = {name: np.zeros((4, 14), dtype=bool) for name in spans}
    for name, (start, stop) in spans.items():
        masks[name][:, start:stop] = True
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "iscrowd": 0,
            "area": 40.0,
            "bbox": [0, 0, 1, 1],
            "segmentation": encode_mask(masks[name]),
        }
        for number, (category, name) in enumerate(zip(categories, ("left", "right"), strict=True))
    ]
    listed = [{"id": category, "name": str(category)} for category in categories]
    truth = {
        "images": [{"id": 1, "height": 4, "width": 14}],
        "annotations": annotations,
        "categories": listed,
    }
    rows = [
        {"image_id": 1, "category_id": 3, "segmentation": encode_mask(masks[name]), "score": score}
        for name, score in (("left", 0.1), ("between", 0.9))
    ]
    at = np.array([0.8])
    assert by_hand(truth, rows, at, [10])[0, 0, 0] == recall
    for backend in BACKENDS:
        assert recall_table(truth, rows, at, [10], backend)[0, 0, 0] == recall


@pytest.mark.parametrize(("categories", "recall"), [((7, 3), 0.0), ((3, 7), 1.0), ((3, 3), 1.0)])
def test_equal_scores_stand_by_category_then_as_in_the_file(
    categories: tuple[int, int], recall: float
) -> None:
    """Of two masks of one score the first alone is within the limit; the object is the first of the file."""
    mask = np.zeros((4, 14), dtype=bool)
    mask[:, :6] = True
    there = {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "iscrowd": 0,
        "area": 24.0,
        "bbox": [0, 0, 1, 1],
        "segmentation": encode_mask(mask),
    }
    listed = [{"id": category, "name": str(category)} for category in (7, 3)]
    truth = {"images": [{"id": 1, "height": 4, "width": 14}], "annotations": [there], "categories": listed}
    rows = [
        {"image_id": 1, "category_id": category, "segmentation": encode_mask(one), "score": 0.5}
        for category, one in zip(categories, (mask, ~mask), strict=True)
    ]
    at = np.array([0.5])
    assert by_hand(truth, rows, at, [1])[0, 0, 0] == recall
    for backend in BACKENDS:
        assert recall_table(truth, rows, at, [1], backend)[0, 0, 0] == recall, backend


def test_a_thousand_masks_an_image_and_more() -> None:
    truth, _ = any_case(3)
    random = np.random.default_rng(0)
    image = max(
        truth["images"], key=lambda image: sum(a["image_id"] == image["id"] for a in truth["annotations"])
    )
    size = (image["height"], image["width"])
    objects = [decode_mask(a["segmentation"]) for a in truth["annotations"] if a["image_id"] == image["id"]]
    counts: set[str] = set()
    while len(counts) < 1300:
        noisy = objects[random.integers(len(objects))] ^ (blob(random, size) & (random.random(size) < 0.2))
        counts.add(encode_mask(noisy)["counts"])
    rows = [
        {
            "image_id": image["id"],
            "category_id": 3,
            "segmentation": {"size": list(size), "counts": c},
            "score": round(float(random.random()), 1),
        }
        for c in sorted(counts)
    ]
    tables = [recall_table(truth, rows, VOC_THRESHOLDS, [10, 100, 1000], backend) for backend in BACKENDS]
    assert (
        (tables[0] == tables[1]).all()
        and (tables[0] == tables[2]).all()
        and 0 < tables[0][0, 0, 0] < tables[0][0, 0, 2]
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_there(truth: dict, backend: str) -> None:
    bare = {**truth, "annotations": []}
    crowds = {**truth, "annotations": [annotation | {"iscrowd": 1} for annotation in truth["annotations"]]}
    rows = truth_as_results(truth)
    assert (
        average_recall(bare, rows, backend)
        == average_recall(bare, [], backend)
        == average_recall(crowds, rows, backend)
        == {}
    )
    assert average_recall(crowds, [], backend) == {}
    figures = average_recall(truth, [], backend)
    assert set(figures.values()) == {0.0} and "AR@100-large" not in figures and "AR_voc@60" in figures


def test_the_voc_protocol_asks_for_the_very_mask_too(truth: dict) -> None:
    rows = truth_as_results(truth)
    shifted = [
        row | {"segmentation": encode_mask(np.roll(decode_mask(row["segmentation"]), 1, 1))} for row in rows
    ]
    exact, near = average_recall(truth, rows), average_recall(truth, shifted)
    assert exact["AR_voc@10"] == exact["AR_voc@60"] == 1
    # no shifted mask is the object's own, so that the eleventh threshold finds none
    assert near["AR_voc@60"] == pytest.approx(near["AR@100"] * 10 / 11) and near["AR@100"] > 0.3
    assert (
        VOC_THRESHOLDS[-1] == 1
        and (VOC_THRESHOLDS[:10] == COCO_THRESHOLDS).all()
        and (COCOeval().params.iouThrs == COCO_THRESHOLDS).all()
    )


def test_an_unknown_backend_is_refused(truth: dict) -> None:
    with pytest.raises(UserError, match="backend must be one of own, faster, pycocotools, got 'fast'"):
        average_recall(truth, [], "fast")


@pytest.mark.parametrize("backend", BACKENDS)
def test_whole_floats_as_ids_change_no_figure(backend: str) -> None:
    truth, results = any_case(3)
    floats = [
        row | {"image_id": float(row["image_id"]), "category_id": float(row["category_id"])}
        for row in results
    ]
    assert average_recall(truth, floats, backend) == average_recall(truth, results, backend)
