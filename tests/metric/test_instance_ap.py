"""MatchCounts against cases that one can count, a brute-force reference, an optimal assignment, and real nuclei."""

import itertools
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from rpe.data.module import data_root
from rpe.metric.instance_ap import (
    THRESHOLDS,
    compute_overlaps,
    count_image,
    find_touching_labels,
    instance_metrics,
    label_maps,
    match_labels,
    true_labels,
)
from rpe.rle import encode_mask
from rpe.segment import select_instances
from rpe.structures import Proposals

NUCLEI = data_root() / "nuclei" / "annotations" / "instances_val.json"


def boxes(size: tuple[int, int], *places: tuple[int, int, int, int]) -> np.ndarray:
    """Labels 1, 2, ... of (top, left, height, width), a later one on top."""
    labels = np.zeros(size, dtype=np.int64)
    for number, (top, left, height, width) in enumerate(places, start=1):
        labels[top : top + height, left : left + width] = number
    return labels


def scattered(seed: int, size: tuple[int, int] = (40, 50), objects: int = 14) -> np.ndarray:
    random = np.random.default_rng(seed)
    places = [(*random.integers(0, np.array(size) - 4), *random.integers(2, 12, 2)) for _ in range(objects)]
    labels = boxes(size, *places) * 3
    labels[random.random(size) < 0.02] = -1
    return labels


def by_brute_force(
    truth: np.ndarray, prediction: np.ndarray, threshold: float
) -> tuple[int, int, int, float]:
    """Every pair of masks, and StarDist's rule: the assignment that matches most pairs of an IoU of the threshold or more."""
    prediction = np.where(truth == -1, 0, prediction)
    ours = [prediction == k for k in np.unique(prediction[prediction > 0])]
    theirs = [truth == k for k in np.unique(truth[truth > 0])]
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in ours] for a in theirs]).reshape(
        len(theirs), len(ours)
    )
    rows, columns = linear_sum_assignment(
        -(iou >= threshold).astype(float) - iou / (2 * max(1, min(iou.shape)))
    )
    good = iou[rows, columns] >= threshold
    return (
        int(good.sum()),
        len(ours) - int(good.sum()),
        len(theirs) - int(good.sum()),
        float(iou[rows, columns][good].sum()),
    )


def shaken(labels: np.ndarray, seed: int) -> np.ndarray:
    """Objects moved, split and merged."""
    random = np.random.default_rng(seed)
    moved = np.roll(labels.clip(min=0), tuple(random.integers(-1, 2, 2)), (0, 1))
    number = np.arange(moved.max() + 1)
    number[random.integers(0, len(number), 3)] = random.integers(0, len(number), 3)
    number[0] = 0
    moved = number[moved]
    split = random.integers(1, moved.max() + 2)
    moved[:, ::2][moved[:, ::2] == split] = moved.max() + 5
    return moved


@pytest.mark.parametrize("seed", range(25))
def test_as_brute_force_with_an_optimal_assignment(seed: int) -> None:
    truth = scattered(seed)
    prediction = shaken(truth, seed)
    counts, _ = count_image(truth, prediction)
    for index, threshold in enumerate(THRESHOLDS):
        found = counts.tp[index], counts.fp[index], counts.fn[index], counts.iou[index]
        assert found == pytest.approx(by_brute_force(truth, prediction, threshold)), threshold


def test_at_exactly_one_half_two_halves_are_one_match() -> None:
    whole, halves = boxes((10, 10), (2, 2, 4, 6)), boxes((10, 10), (2, 2, 4, 3), (2, 5, 4, 3))
    for truth, prediction in itertools.permutations([whole, halves]):
        pairs = compute_overlaps(truth, prediction)
        assert (
            pairs.ious.tolist() == [0.5, 0.5]
            and len(match_labels(pairs, 0.5)) == 1
            and len(match_labels(pairs, 0.55)) == 0
        )
        assert by_brute_force(truth, prediction, 0.5)[0] == 1
    with pytest.raises(ValueError, match="must be >= 0.5"):
        match_labels(pairs, 0.4)


def test_by_hand() -> None:
    truth = boxes((20, 20), (0, 0, 4, 4), (10, 10, 4, 4), (0, 10, 4, 5))
    # the first exactly, the second by 12 of 16 pixels, the third missed, and one where nothing is
    prediction = boxes((20, 20), (0, 0, 4, 4), (10, 10, 3, 4), (16, 0, 2, 2))
    figures = instance_metrics([(truth, prediction)])
    assert figures["AP50"] == figures["AP75"] == pytest.approx(2 / 4) and figures["AP80"] == figures[
        "AP90"
    ] == pytest.approx(1 / 5)
    assert (
        figures["SQ"] == pytest.approx(1.75 / 2)
        and figures["RQ"] == pytest.approx(2 / 3)
        and figures["PQ"] == pytest.approx(1.75 / 3)
    )
    assert "AP50-touching" not in figures, "no object touches another"


@pytest.mark.parametrize("part", range(10, 19))
def test_an_overlap_of_exactly_the_threshold_counts(part: int) -> None:
    truth, prediction = boxes((20, 20), (0, 0, 1, 20)), boxes((20, 20), (0, 0, 1, part))
    figures = instance_metrics([(truth, prediction)])
    wanted = {f"AP{percent}": float(percent <= 5 * part) for percent in range(50, 91, 5)}
    assert {name: figures[name] for name in wanted} == wanted


def test_the_mean_over_images_and_the_pooled() -> None:
    one, two = boxes((9, 9), (0, 0, 3, 3)), boxes((9, 9), (0, 0, 2, 2), (4, 0, 2, 2), (4, 5, 2, 2))
    none = np.zeros_like(one)
    figures = instance_metrics([(one, one), (two, none), (none, none)])
    assert figures["AP50"] == 0.5 and figures["AP50-pooled"] == 0.25, "the empty image has no AP"
    assert figures["PQ"] == 0.5 and figures["PQ-pooled"] == pytest.approx(1 / 2.5) and figures["SQ"] == 1
    assert instance_metrics([(none, one)])["AP50"] == 0 and instance_metrics(
        [(none, none)]
    ) == {} == instance_metrics([])


def test_void_belongs_to_nobody() -> None:
    truth, prediction = boxes((10, 10), (0, 0, 4, 4)), boxes((10, 10), (0, 0, 4, 8), (6, 6, 3, 3))
    assert instance_metrics([(truth, prediction)])["AP50"] == pytest.approx(1 / 2)
    truth[:, 4:] = -1
    assert instance_metrics([(truth, prediction)])["AP90"] == 1


def test_touching_is_less_than_two_pixels_between_the_boxes() -> None:
    for gap, close in ((0, True), (1, True), (2, False), (5, False)):
        for place in ((0, 4 + gap), (4 + gap, 0), (4 + gap, 4 + gap), (4 + gap, 4)):
            labels = 2 * boxes((20, 20), (0, 0, 4, 4), (*place, 4, 4))
            assert find_touching_labels(labels).tolist() == [close, close], (gap, place)
    assert find_touching_labels(boxes((20, 20), (0, 0, 4, 4), (5, 0, 4, 4), (15, 15, 2, 2))).tolist() == [
        True,
        True,
        False,
    ]
    assert find_touching_labels(np.zeros((3, 3), dtype=np.int64)).tolist() == []
    assert find_touching_labels(boxes((9, 9), (0, 0, 9, 9), (3, 3, 2, 2))).tolist() == [True, True], (
        "a box within another"
    )


def test_touching_objects_are_scored_on_their_own() -> None:
    truth = boxes((30, 30), (0, 0, 6, 6), (0, 6, 6, 6), (20, 20, 6, 6))
    merged = boxes((30, 30), (0, 0, 6, 12), (20, 20, 6, 6), (26, 0, 2, 2))
    figures = instance_metrics([(truth, merged)])
    # the merged mask takes one of the two halves at exactly 0.5
    assert figures["recall50-touching"] == 0.5 and figures["AP50-touching"] == 0.5
    larger = boxes((30, 30), (0, 0, 7, 12), (20, 20, 6, 6), (26, 0, 2, 2))
    _, close = count_image(truth, larger)
    # the false positive far away is not theirs, the merged one is
    assert (close.tp[0], close.fp[0], close.fn[0]) == (0, 1, 2)
    assert instance_metrics([(truth, truth)])["AP50-touching"] == 1
    # a mask that misses belongs to the object that it shares most with: mostly with the far one, though a corner is of a touching one
    astray = boxes((30, 30), (0, 0, 6, 6), (0, 6, 6, 6))
    astray[20:22, 20:26] = astray[0, 11] = 3
    _, close = count_image(truth, astray)
    assert (close.tp[0], close.fp[0], close.fn[0]) == (2, 0, 0)


def test_label_maps_of_truth_and_results() -> None:
    masks = [boxes((12, 14), place) > 0 for place in ((0, 0, 6, 6), (4, 4, 4, 4), (8, 8, 4, 6))]
    crowd = boxes((12, 14), (0, 10, 3, 4)) > 0
    truth = {
        "images": [{"id": 3, "height": 12, "width": 14}, {"id": 1, "height": 5, "width": 5}],
        "annotations": [
            {
                "image_id": 3,
                "segmentation": encode_mask(mask),
                "area": float(mask.sum()),
                "iscrowd": int(mask is crowd),
            }
            for mask in (*masks, crowd)
        ],
    }
    labels = true_labels(truth["annotations"], (12, 14))
    assert (labels == -1).sum() == 12 and labels[5, 5] == labels[7, 7] != labels[0, 0], (
        "the smaller is on top"
    )
    rows = [
        {"image_id": 3, "segmentation": encode_mask(mask), "score": score}
        for mask, score in zip(masks, (0.2, 0.9, 0.8), strict=True)
    ]
    ranks: list[list[float]] = []

    def select(proposals: Proposals) -> np.ndarray:
        ranks.append(proposals.scores.tolist())
        return select_instances(proposals, threshold=0.1)

    maps = list(label_maps(truth, rows, select))
    assert ranks == [[0.9, 0.8, 0.2], []] and maps[1][0].shape == maps[1][1].shape == (5, 5)
    assert instance_metrics(maps)["AP50"] == instance_metrics(maps[::-1])["AP50"] == 1


def test_three_hundred_nuclei_take_milliseconds() -> None:
    truth = boxes(
        (520, 696), *[(17 * row, 34 * column, 14, 30) for row in range(30) for column in range(20)][:300]
    )
    prediction = np.roll(truth, 2, 0)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        counts, _ = count_image(truth, prediction)
        seconds.append(time.perf_counter() - start)
    assert counts.tp[0] == 300 and min(seconds) < 0.5, "some 20 ms on a free core"


@pytest.mark.skipif(not NUCLEI.is_file(), reason="RPE_DATA_DIR holds no nuclei")
def test_the_oracle_on_real_nuclei() -> None:
    truth = json.loads(Path(NUCLEI).read_text())
    truth["images"] = truth["images"][:12]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    rows = [
        {"image_id": a["image_id"], "segmentation": a["segmentation"], "score": 1.0}
        for a in truth["annotations"]
    ]
    figures = instance_metrics(label_maps(truth, rows, partial(select_instances, threshold=0.5)))
    assert figures["AP50"] > 0.99 and figures["PQ"] > 0.99 and figures["recall50-touching"] > 0.98


@pytest.mark.parametrize("area", [0, 1.0, 80.0, None])
def test_of_objects_that_overlap_the_one_of_fewer_pixels_is_on_top_whatever_the_field_says(
    area: float | None,
) -> None:
    masks = [boxes((20, 20), place) > 0 for place in ((5, 5, 3, 3), (0, 0, 20, 20), (4, 4, 8, 8))]
    truth = {
        "images": [{"id": 1, "height": 20, "width": 20, "file_name": "a"}],
        "categories": [{"id": 1, "name": "a"}],
    }
    truth["annotations"] = [
        {
            "id": k,
            "image_id": 1,
            "category_id": 1,
            "area": 1e6 - mask.sum() if area is None else area,
            "iscrowd": 0,
            "segmentation": encode_mask(mask),
        }
        for k, mask in enumerate(masks, start=1)
    ]
    labels = true_labels(truth["annotations"], (20, 20))
    assert np.bincount(labels.ravel())[1:].tolist() == [400 - 64, 64 - 9, 9]
    rows = [
        {
            "image_id": 1,
            "score": 0.5 + 0.1 * (mask.sum() < 100) + 0.1 * (mask.sum() < 10),
            "segmentation": encode_mask(mask),
        }
        for mask in masks
    ]
    assert instance_metrics(label_maps(truth, rows, partial(select_instances, threshold=0.5)))["AP75"] == 1
    crowd = [
        annotation | {"iscrowd": int(number == 0)} for number, annotation in enumerate(truth["annotations"])
    ]
    assert (true_labels(crowd, (20, 20)) == -1).sum() == 0, "crowds lie below, however small"
