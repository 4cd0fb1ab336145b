"""The search against known optima; bounds are never above what it finds; loss floors."""

import math

import pytest
import torch

from rpe.sphere_packing.bound import (
    cap_bound,
    fejes_toth_bound,
    similarity_bound,
)
from rpe.sphere_packing.search import best_arrangement, largest_cosines, loss_floor
from rpe.structures import UserError

ANGLES = {4: 109.4712206, 5: 90.0, 6: 90.0, 8: 74.8584922, 12: 63.4349488, 24: 43.6907671}
KNOWN = [(groups, 3, math.cos(math.radians(angle))) for groups, angle in ANGLES.items()]
KNOWN += [(24, 4, 0.5), (5, 4, -1 / 4), (8, 4, 0.0)]


def found(groups: int, dimension: int, starts: int = 24) -> float:
    points = best_arrangement(groups, dimension, starts, seed=0)
    assert points.shape == (groups, dimension) and torch.linalg.vector_norm(points, dim=1) == pytest.approx(
        torch.ones(groups), abs=1e-12
    )
    return float(largest_cosines(points[None]))


@pytest.mark.parametrize(("groups", "dimension", "cosine"), KNOWN)
def test_the_search_finds_known_optima(groups: int, dimension: int, cosine: float) -> None:
    assert found(groups, dimension) == pytest.approx(cosine, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "dimension", "cosine"),
    [
        (9, 8, -1 / 8),
        (17, 16, -1 / 16),
        (16, 8, 0.0),
        (32, 16, 0.0),
        (3, 4, -0.5),
        (5, 8, -0.25),
        (9, 16, -0.125),
    ],
)
def test_the_search_finds_more_known_optima(groups: int, dimension: int, cosine: float) -> None:
    assert found(groups, dimension) == pytest.approx(cosine, abs=1e-5)


def proposition_1(groups: int) -> float:
    """Return the lower bound (1 - 1 / (n - 1)) / 2 on the mean similarity, and so on the largest.

    Paper, Prop. 1.
    """
    return (1 - 1 / (groups - 1)) / 2 if groups > 1 else 0.0


def proposition_2(groups: int) -> float:
    """Return 1 - 2 pi / (sqrt(3) n), a lower bound on the largest similarity in D = 3.

    Paper, Prop. 2, after Habicht and van der Waerden.
    """
    return 1 - 2 * math.pi / (math.sqrt(3) * groups)


def test_bounds_are_never_above_what_there_is() -> None:
    for groups, dimension in [(7, 3), (9, 3), (11, 5)]:
        similarity = (1 + found(groups, dimension, 12)) / 2
        assert (
            similarity_bound(groups, dimension) <= similarity + 1e-9
            and cap_bound(groups, dimension) <= similarity
        )
        assert proposition_1(groups) <= similarity_bound(groups, dimension)
        if dimension == 3:
            assert proposition_2(groups) <= fejes_toth_bound(groups) <= similarity + 1e-9


def test_loss_floors() -> None:
    assert loss_floor(8, 3, 0.5, starts=48, seed=0) == pytest.approx(0.0313, abs=1e-4)
    assert loss_floor(7, 3, 0.5, starts=48, seed=0) == pytest.approx(0.0204, abs=1e-4)
    assert loss_floor(6, 3, 0.5, starts=1, seed=0) == 0
    # in one dimension four points fall into two pairs of equal ones: four ordered pairs over the margin by 1 - 0.5
    assert loss_floor(4, 1, 0.5, starts=16, seed=0) == pytest.approx(4 * 0.5 / 16)


def test_slips() -> None:
    with pytest.raises(UserError, match="starts must be an integer >= 1, got 0"):
        best_arrangement(3, 3, 0, 0)
    with pytest.raises(UserError, match=r"margin must be in \[0, 1\), got 1.5"):
        loss_floor(3, 3, 1.5, 1, 0)
