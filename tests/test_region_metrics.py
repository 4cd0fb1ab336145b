"""Region figures: by hand, against other libraries, and the official program's own on its five images."""

import numpy as np
import pytest
from region_metrics import (
    best_segment_ious,
    count_overlaps,
    count_regions,
    rand_index,
    region_metrics,
    renumber_segments,
    threshold_contours,
    variation_of_information,
)
from scipy import io
from skimage.metrics import variation_of_information as reference_information
from sklearn.metrics import rand_score

from rpe.data.bsds import read_drawings
from rpe.data.module import data_root
from rpe.metric.boundary import even_thresholds

EXAMPLE = data_root() / "BSR" / "bench" / "data"
real = pytest.mark.skipif(not (EXAMPLE / "test_5").is_dir(), reason="RPE_DATA_DIR has no BSR/bench/data")
NAMES = ["2018", "3063", "5096", "6046", "8068"]
HALVES = np.array([[0, 0, 1, 1]])
QUARTERS = np.array([[0, 1, 2, 3]])
WHOLE = np.zeros((1, 4), dtype=np.int64)


def test_by_hand() -> None:
    shared = count_overlaps(HALVES, WHOLE)
    assert shared.tolist() == [[2], [2]] and best_segment_ious(shared).tolist() == [0.5]
    # 2 of the 6 pairs are together in both
    assert rand_index(shared) == pytest.approx(2 / 6) and variation_of_information(shared) == pytest.approx(1)
    same = count_overlaps(HALVES, renumber_segments(HALVES * 7))
    assert (
        rand_index(same) == 1
        and variation_of_information(same) == pytest.approx(0)
        and best_segment_ious(same).tolist() == [1, 1]
    )


@pytest.mark.parametrize("seed", range(5))
def test_against_other_libraries(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 6, (2, 20, 30))
    shared = count_overlaps(one, other)
    assert rand_index(shared) == pytest.approx(rand_score(one.ravel(), other.ravel()))
    assert variation_of_information(shared) == pytest.approx(sum(reference_information(one, other)))
    renumber_segments = [
        max((a & b).sum() / (a | b).sum() for a in (one == i for i in range(6)))
        for b in (other == j for j in range(6))
    ]
    assert best_segment_ious(shared) == pytest.approx(renumber_segments)


def test_figures_by_hand() -> None:
    first = count_regions([HALVES * 5 + 3, WHOLE], [WHOLE, HALVES])
    # covering of WHOLE by HALVES 1/2, by WHOLE 1; of HALVES by WHOLE 1/2
    assert first.pixels == 8 and first.covered.tolist() == [2 + 4, 4 + 2] and first.best == 8
    assert first.rand.tolist() == pytest.approx(
        [(2 / 6 + 1) / 2] * 2
    ) and first.information.tolist() == pytest.approx([0.5, 0.5])
    second = count_regions([QUARTERS, WHOLE], [WHOLE])
    assert (
        second.covered.tolist() == [1, 4]
        and second.rand.tolist() == [0, 1]
        and second.information.tolist() == pytest.approx([2, 0])
    )
    result = region_metrics([first, second], np.array([0.3, 0.6]))
    assert (
        result["covering-ODS"] == pytest.approx(10 / 12)
        and result["covering-OIS"] == pytest.approx(10 / 12)
        and result["covering-best"] == 1
    )
    assert (
        result["PRI-ODS"] == pytest.approx((2 / 3 + 1) / 2) == result["PRI-OIS"]
        and result["PRI-threshold"] == 0.6
    )
    assert (
        result["VI-ODS"] == pytest.approx(0.25) == result["VI-OIS"]
        and result["VI-threshold"] == result["covering-threshold"] == 0.6
    )


def test_hierarchy_merges_as_the_threshold_grows() -> None:
    contours = np.zeros((5, 9))
    # where lines meet the stronger continues, as in any ultrametric map
    contours[2, 4:], contours[:, 2], contours[:, 4] = 0.4, 0.2, 0.6
    counts = [len(np.unique(level)) for level in threshold_contours(contours, np.array([0.1, 0.3, 0.5, 0.7]))]
    assert counts == [4, 3, 2, 1]
    assert threshold_contours(contours, np.array([0.3]))[0].tolist() == [[0, 0, 1, 1], [0, 0, 2, 2]]


@real
@pytest.mark.parametrize("kind", ["ucm2", "segs"])
def test_official_example(kind: str) -> None:
    counts = []
    for name in NAMES:
        content = io.loadmat(EXAMPLE / kind / f"{name}.mat")[kind]
        levels = (
            threshold_contours(content, even_thresholds(5))
            if kind == "ucm2"
            else [one.astype(np.int64) for one in content.ravel()]
        )
        counts.append(
            count_regions(
                levels, [one.segments for one in read_drawings(EXAMPLE / "groundTruth" / f"{name}.mat")]
            )
        )
    result = region_metrics(counts, even_thresholds(5))
    run = EXAMPLE / "test_5"
    covering, rand = np.loadtxt(run / "eval_cover.txt"), np.loadtxt(run / "eval_RI_VOI.txt")
    assert [result[f"covering-{name}"] for name in ("ODS", "OIS", "best")] == pytest.approx(
        covering[1:], abs=1e-5
    )
    assert [result[name] for name in ("PRI-ODS", "PRI-OIS", "VI-ODS", "VI-OIS")] == pytest.approx(
        [rand[1], rand[2], rand[4], rand[5]], abs=1e-5
    )
    table = np.loadtxt(run / "eval_RI_VOI_thr.txt")
    assert np.mean([one.rand for one in counts], 0) == pytest.approx(table[:, 1], abs=1e-5)
    assert np.mean([one.information for one in counts], 0) == pytest.approx(table[:, 2], abs=1e-5)
    pooled = sum(one.covered for one in counts) / sum(one.pixels for one in counts)
    assert pooled == pytest.approx(np.loadtxt(run / "eval_cover_th.txt")[:, 1], abs=1e-5)
