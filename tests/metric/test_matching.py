"""Greedy matching against the loop that it stands for."""

import numpy as np
import pytest

from rpe.metric.matching import UNMATCHED, Pairs, matched_rank

THRESHOLDS = np.array([0.5, 0.75, 1.0])


def one_by_one(iou: np.ndarray, threshold: float, counted: np.ndarray) -> list[int]:
    """Rank of the taker of each object of one image, mask by mask."""
    taken = [UNMATCHED] * iou.shape[1]
    for rank, row in enumerate(iou):
        best, chosen = min(threshold, 1 - 1e-10), None
        for thing, value in enumerate(row):
            if counted[thing] and taken[thing] == UNMATCHED and value >= best:
                best, chosen = value, thing
        if chosen is not None:
            taken[chosen] = rank
    return taken


def pairs_of(iou: np.ndarray) -> Pairs:
    ranks, things = np.nonzero(iou > 0)
    order = np.random.default_rng(0).permutation(len(ranks))
    return Pairs(ranks[order] + 10, ranks[order], things[order], iou[ranks, things][order])


@pytest.mark.parametrize("seed", range(60))
def test_as_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    iou = random.choice([0, 0, 0, 0.4, 0.5, 0.6, 0.75, 0.8, 1], size=(12, 6)) * (
        random.random((12, 6)) < random.choice([0.2, 0.6, 1])
    )
    counted = random.random((3, 6)) < 0.7
    taken = matched_rank(pairs_of(iou), THRESHOLDS, counted)
    for area in range(3):
        for index, threshold in enumerate(THRESHOLDS):
            assert taken[area, index].tolist() == one_by_one(iou, threshold, counted[area])


def test_a_better_ranked_mask_chooses_first_and_each_takes_one() -> None:
    both = pairs_of(np.array([[0.6, 0.8], [0.0, 0.9], [0.55, 0.0]]))
    everything = np.ones((1, 2), dtype=bool)
    assert matched_rank(both, np.array([0.5]), everything)[0, 0].tolist() == [2, 0]
    assert matched_rank(both, np.array([0.85]), everything)[0, 0].tolist() == [UNMATCHED, 1]


def test_of_equal_overlaps_the_last_object_is_taken() -> None:
    tie = pairs_of(np.array([[0.7, 0.7]]))
    assert matched_rank(tie, np.array([0.5]), np.ones((1, 2), dtype=bool))[0, 0].tolist() == [UNMATCHED, 0]


def test_nothing_to_match() -> None:
    none = Pairs(*(np.zeros(0, dtype=np.int64) for _ in range(3)), np.zeros(0))
    assert (matched_rank(none, THRESHOLDS, np.ones((4, 2), dtype=bool)) == UNMATCHED).all()
    assert matched_rank(none, THRESHOLDS, np.ones((4, 0), dtype=bool)).shape == (4, 3, 0)
