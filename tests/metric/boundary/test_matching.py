"""The definition of a match, against hand-made cases and exhaustive search."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from rpe.metric.boundary.matching import (
    Neighbours,
    list_steps,
    match_boundaries,
    matching_distance,
    outlier_cost,
    tie_break_costs,
)


def dots(*places: tuple[int, int], size: tuple[int, int] = (12, 14)) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def test_reach_is_a_share_of_the_diagonal() -> None:
    assert (
        matching_distance((321, 481))
        == pytest.approx(0.0075 * np.hypot(321, 481))
        == pytest.approx(4.3371, abs=1e-4)
    )


def test_steps_and_their_costs() -> None:
    steps, costs = list_steps(2.0)
    assert len(steps) == 13 and {tuple(step) for step in steps.tolist()} >= {(0, 0), (2, 0), (0, -2), (-1, 1)}
    assert dict(zip(map(tuple, steps.tolist()), costs.tolist(), strict=True))[1, 1] == 141
    assert outlier_cost(4.3371) == 43371


def test_within_reach_and_one_to_one() -> None:
    predicted, truth = match_boundaries(dots((3, 3), (3, 4), (9, 9)), dots((3, 5), (9, 12)), max_distance=2.0)
    # (3, 4) is nearer than (3, 3), (9, 9) is too far away
    assert np.argwhere(predicted).tolist() == [[3, 4]] and np.argwhere(truth).tolist() == [[3, 5]]


def test_many_pairs_come_before_short_ones() -> None:
    # the pixel in the middle is at distance 0 from one truth, which leaves the other truth without a partner
    predicted, truth = match_boundaries(dots((5, 5), (5, 3)), dots((5, 5), (5, 7)), max_distance=2.0)
    assert predicted.sum() == 2 and truth.sum() == 2


def test_among_as_many_pairs_the_shortest() -> None:
    predicted, _ = match_boundaries(dots((5, 2), (5, 4)), dots((5, 5)), max_distance=4.0)
    assert np.argwhere(predicted).tolist() == [[5, 4]]


@pytest.mark.parametrize("seed", range(25))
def test_the_cheapest_of_all_assignments(seed: int) -> None:
    random = np.random.default_rng(seed)
    size, max_distance = (9, 11), 2.5
    prediction, truth = (random.random(size) < 0.2 for _ in range(2))
    predicted, found = match_boundaries(prediction, truth, max_distance)
    ours, theirs = np.argwhere(prediction), np.argwhere(truth)
    distance = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1))
    outlier = outlier_cost(max_distance)
    # dense reference: everybody may stay alone, at the outlier's cost
    cost = np.where(distance <= max_distance, np.rint(100 * distance), 10 * outlier)
    square = np.block(
        [
            [cost, np.full((len(ours), len(ours)), outlier)],
            [np.full((len(theirs), len(theirs)), outlier), np.zeros(cost.T.shape)],
        ]
    )
    rows, columns = linear_sum_assignment(square)
    pairs = (rows < len(ours)) & (columns < len(theirs))
    assert predicted.sum() == found.sum() == pairs.sum()
    assert not (predicted & ~prediction).any() and not (found & ~truth).any()
    # the chosen pixels can be paired at the same cost
    chosen = cost[
        np.ix_(
            [prediction_index(ours, place) for place in np.argwhere(predicted)],
            [prediction_index(theirs, place) for place in np.argwhere(found)],
        )
    ]
    again = linear_sum_assignment(chosen)
    assert chosen[again].sum() == cost[rows[pairs], columns[pairs]].sum()


def prediction_index(places: np.ndarray, place: np.ndarray) -> int:
    return int(np.flatnonzero((places == place).all(1))[0])


def test_neighbours_at_the_border() -> None:
    truth = dots((0, 0), (11, 13))
    row, pixel, cost = Neighbours([truth], max_distance=1.0).edges(np.ones_like(truth))
    found = sorted(zip(row.tolist(), pixel.tolist(), np.floor(cost).tolist(), strict=True))
    last = 12 * 14 - 1
    assert found == [
        (0, 0, 0),
        (0, 1, 100),
        (0, 14, 100),
        (1, last - 14, 100),
        (1, last - 1, 100),
        (1, last, 0),
    ]


def test_ties_are_settled_by_the_pixels() -> None:
    # two pixels at equal distance from one of the truth: whichever it is, it is the same for every annotator, and far less than a unit
    extra = tie_break_costs(12 * 14)
    assert extra.min() >= 0 and extra.sum() < 1 and (extra == tie_break_costs(12 * 14)).all()
    left, right = (5, 4), (5, 6)
    predicted, _ = match_boundaries(dots(left, right), dots((5, 5)), max_distance=2.0)
    assert predicted[left] == (extra.reshape(12, 14)[left] < extra.reshape(12, 14)[right])


def test_nothing_to_match() -> None:
    for prediction, truth in itertools.permutations([dots(), dots((1, 1))]):
        assert not any(one.any() for one in match_boundaries(prediction, truth, 3.0))
