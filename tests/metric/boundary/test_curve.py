"""The figures: worked by hand, and the official program's own on its five images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import io

from rpe.data.bsds import read_drawings
from rpe.data.module import data_root
from rpe.metric.boundary import (
    Annotators,
    BoundaryCounts,
    average_precision,
    boundary_metrics,
    count_between_annotators,
    count_boundary_masks,
    count_boundary_pixels,
    counts_from_table,
    even_thresholds,
    f_measure,
    interpolate_best,
)
from rpe.metric.boundary.reading import read_prediction

EXAMPLE = data_root() / "BSR" / "bench" / "data"
real = pytest.mark.skipif(not (EXAMPLE / "test_1").is_dir(), reason="RPE_DATA_DIR has no BSR/bench/data")
NAMES = ["2018", "3063", "5096", "6046", "8068"]


def test_thresholds() -> None:
    assert np.allclose(even_thresholds(99), np.arange(1, 100) / 100) and np.allclose(
        even_thresholds(5), np.arange(1, 6) / 6
    )
    # values of 8-bit maps that equal a threshold count as boundaries
    assert all(k / 255 >= even_thresholds(99)[k * 100 // 255 - 1] for k in (51, 102, 153, 204))


def test_f_measure() -> None:
    assert f_measure(np.array([0.0, 1.0, 0.5]), np.array([0.0, 0.5, 0.25])).tolist() == pytest.approx(
        [0, 2 / 3, 1 / 3]
    )


def counts_of(*images: list[list[int]]) -> BoundaryCounts:
    return counts_from_table(np.array(images, dtype=np.int64))


def test_figures_by_hand() -> None:
    # found, truth, matched, predicted at two thresholds
    one = [[8, 10, 8, 16], [6, 10, 6, 6]]
    other = [[9, 10, 9, 10], [2, 10, 2, 4]]
    result = boundary_metrics(counts_of(one, other), np.array([0.25, 0.75]))
    # pooled: recall 17/20, 8/20, precision 17/26, 8/10; the best lies between
    shares = np.linspace(0, 1, 100)
    recall, precision = 0.85 + shares * (0.4 - 0.85), 17 / 26 + shares * (0.8 - 17 / 26)
    f = 2 * recall * precision / (recall + precision)
    assert result["ODS"] == pytest.approx(f.max()) and result["ODS-threshold"] == pytest.approx(
        0.25 + 0.5 * shares[f.argmax()]
    )
    # own best: 6/10 & 6/6 (F .75, not .615), 9/10 & 9/10: together 15/20 & 15/16
    assert result["OIS-recall"] == pytest.approx(0.75) and result["OIS-precision"] == pytest.approx(15 / 16)
    assert result["OIS"] == pytest.approx(2 * 0.75 * (15 / 16) / (0.75 + 15 / 16))
    # recalls .40 .. .85, precision falling linearly from .8 to 17/26
    heights = np.interp(np.arange(40, 86) / 100, [0.4, 0.85], [0.8, 17 / 26])
    assert result["AP"] == pytest.approx(heights.sum() * 0.01)


def test_best_lies_between_thresholds() -> None:
    threshold, recall, precision, score = interpolate_best(
        np.array([0.2, 0.4]), np.array([1.0, 0.2]), np.array([0.2, 1.0])
    )
    assert (
        threshold == pytest.approx(0.3, abs=0.002)
        and recall == pytest.approx(0.6, abs=0.01)
        and precision == pytest.approx(0.6, abs=0.01)
    )
    assert score == pytest.approx(0.6, abs=1e-3) and score > f_measure(np.ones(1), np.full(1, 0.2))[0]


def test_average_precision_ends_with_the_curve() -> None:
    assert average_precision(np.array([1.0, 0.5, 0.0]), np.array([1.0, 1.0, 1.0])) == pytest.approx(1.01)
    assert average_precision(np.array([0.5, 0.25]), np.array([1.0, 1.0])) == pytest.approx(0.26)
    # equal recalls count once, with the precision of the lowest threshold
    assert average_precision(np.array([0.5, 0.0, 0.0]), np.array([0.8, 0.4, 0.0])) == pytest.approx(
        np.linspace(0.4, 0.8, 51).sum() * 0.01
    )
    assert average_precision(np.array([0.5, 0.5]), np.array([1.0, 0.9])) == 0


def test_pixels_by_hand() -> None:
    truth = np.zeros((60, 80), dtype=bool)
    truth[30, 10:50] = True
    prediction = np.zeros((60, 80))
    prediction[30, 10:30] = 0.9
    prediction[5, 60:70] = 0.5
    counts = count_boundary_pixels(
        prediction, Annotators([truth, truth, np.zeros_like(truth)]), even_thresholds(3)
    )
    assert counts.truth.tolist() == [80] * 3
    assert (
        counts.found.tolist() == [40, 40, 40]
        and counts.predicted.tolist() == [30, 30, 20]
        and counts.matched.tolist() == [20, 20, 20]
    )


def test_equal_maps_are_matched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.zeros((40, 40), dtype=bool)
    truth[20] = True
    annotators = Annotators([truth])
    calls, match = [], annotators.match
    monkeypatch.setattr(annotators, "match", lambda mask: calls.append(1) or match(mask))
    counts = count_boundary_pixels(truth * 0.505, annotators, even_thresholds(99))
    assert len(calls) == 2 and (counts.found == [40] * 50 + [0] * 49).all()


def test_people_among_each_other() -> None:
    first, second = np.zeros((2, 150, 150), dtype=bool)
    first[30, 10:50] = True
    second[31, 10:30] = True
    counts = count_between_annotators([first, second])
    assert counts.truth.tolist() == [60] and counts.predicted.tolist() == [60]
    assert counts.found.tolist() == counts.matched.tolist() == [40]


def official(kind: str, name: str) -> BoundaryCounts:
    annotators = Annotators(
        [one.boundaries for one in read_drawings(EXAMPLE / "groundTruth" / f"{name}.mat")]
    )
    if kind == "native":
        # not by way of the reader
        return count_boundary_pixels(
            np.asarray(Image.open(EXAMPLE / "png" / f"{name}.png")) / 255, annotators, even_thresholds(5)
        )
    file = next((EXAMPLE / kind).glob(f"{name}.*"))
    prediction = read_prediction(file, annotators.size)
    if prediction.map is None:
        return count_boundary_masks(prediction.masks, annotators)
    return count_boundary_pixels(prediction.map, annotators, even_thresholds(5))


@real
@pytest.mark.parametrize("kind", ["native", "png", "ucm2", "segs"])
def test_official_example(kind: str) -> None:
    counts = counts_from_table(np.stack([official(kind, name).table() for name in NAMES]))
    ours = boundary_metrics(counts, even_thresholds(5))
    pooled = counts_from_table(counts.table().sum(0))
    runs = ["test_1", "test_2", "test_3", "test_4"]
    theirs = np.stack([np.loadtxt(EXAMPLE / run / "eval_bdry.txt") for run in runs])
    names = ["ODS-recall", "ODS-precision", "ODS", "OIS-recall", "OIS-precision", "OIS", "AP"]
    assert [ours[name] for name in names if "-" in name] == pytest.approx(theirs[0, [1, 2, 4, 5]], abs=1e-3)
    assert [ours[name] for name in ("ODS", "OIS", "AP")] == pytest.approx(
        theirs[:, [3, 6, 7]].mean(0), abs=3e-4
    )
    for run in runs:
        table = np.loadtxt(EXAMPLE / run / "eval_bdry_thr.txt")
        assert np.abs(np.stack([pooled.recall(), pooled.precision()], 1) - table[:, 1:3]).max() < 1e-3
        images = np.loadtxt(EXAMPLE / run / "eval_bdry_img.txt")
        best = [
            interpolate_best(even_thresholds(5), one.recall(), one.precision())[3]
            for one in map(counts_from_table, counts.table())
        ]
        assert np.abs(np.array(best) - images[:, 4]).max() < 2e-3
    # the official program draws outlier edges by the clock and so misses some pairs: its runs differ by 0.0003 in OIS, and lie below exact matching
    assert [ours["ODS"], ours["OIS"], ours["AP"]] == pytest.approx([0.70472, 0.70874, 0.30755], abs=6e-6)


@real
def test_official_example_is_where_it_is_said_to_be() -> None:
    assert sorted(path.stem for path in (EXAMPLE / "png").glob("*.png")) == NAMES and isinstance(
        EXAMPLE, Path
    )
    assert io.loadmat(EXAMPLE / "ucm2" / "2018.mat")["ucm2"].shape == (963, 643)
