"""Closed forms against each other, and against plain points."""

import pytest

from rpe.sphere_packing.bound import exact_similarity, fejes_toth_bound, similarity_bound
from rpe.structures import UserError


def test_closed_forms() -> None:
    assert exact_similarity(1, 5) == 0 and exact_similarity(2, 1) == 0 and exact_similarity(3, 1) == 1
    assert exact_similarity(6, 2) == pytest.approx(0.75) and exact_similarity(7, 3) is None
    for groups in (3, 4, 6, 12):
        assert fejes_toth_bound(groups) == pytest.approx(exact_similarity(groups, 3), abs=1e-12)
    assert exact_similarity(128, 64) == 0.5 and similarity_bound(129, 64) >= 0.5


def test_slips() -> None:
    with pytest.raises(UserError, match="groups must be an integer >= 1, got 0"):
        exact_similarity(0, 3)
