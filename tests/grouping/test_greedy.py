"""Greedy leaders: the sequential rule, decided in double precision however the products are rounded."""

import pytest
import torch

from rpe.grouping.greedy import assign_leaders, find_first_column, select_independent
from rpe.sphere import normalise


def sequential(
    points: torch.Tensor,
    order: list[int],
    tolerance: float,
    positions: torch.Tensor | None = None,
    max_distance: float = 1.0,
) -> list[int]:
    """The rule as one would say it."""
    points = normalise(points.double())
    leader = [-1] * len(points)
    for head in order:
        if leader[head] < 0:
            for other in order:
                near = other == head or float(points[head] @ points[other]) >= 1 - tolerance
                if positions is not None:
                    near = near and float((positions[head] - positions[other]).norm()) <= max_distance
                if leader[other] < 0 and near:
                    leader[other] = head
    return leader


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, length in (("MAX_BLOCK", 16), ("FIRST_BLOCK", 8), ("ROWS", 40)):
        monkeypatch.setattr(f"rpe.grouping.greedy.{name}", length)


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_take_what_the_sequential_rule_takes(tolerance: float, dtype: torch.dtype) -> None:
    points = normalise(torch.randn(150, 3, dtype=dtype))
    order = torch.randperm(150)
    assert assign_leaders(points, order, tolerance, None, worthwhile=0.0).tolist() == sequential(
        points, order.tolist(), tolerance
    )


def test_places_keep_far_twins_from_being_taken() -> None:
    points, positions = normalise(torch.randn(120, 3)), torch.rand(120, 2)
    order = torch.randperm(120)
    found = assign_leaders(points, order, 0.4, positions, worthwhile=0.0, max_distance=0.25).tolist()
    assert (
        found
        == sequential(points, order.tolist(), 0.4, positions, 0.25)
        != sequential(points, order.tolist(), 0.4)
    )


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_pairs_that_single_precision_cannot_tell_are_decided_in_double(precision: str) -> None:
    # a ring of points whose distances to the first straddle the tolerance by less than fp32 resolves
    tolerance, previous = 0.01, torch.get_float32_matmul_precision()
    angles = torch.acos(torch.tensor(1 - tolerance, dtype=torch.float64)) + 1e-9 * torch.arange(
        -20, 21, dtype=torch.float64
    )
    angles = torch.cat([torch.zeros(1, dtype=torch.float64), angles])
    points = torch.stack([angles.cos(), angles.sin()], 1)
    order = torch.arange(len(points))
    try:
        torch.set_float32_matmul_precision(precision)
        found = assign_leaders(points, order, tolerance, None, worthwhile=0.0).tolist()
    finally:
        torch.set_float32_matmul_precision(previous)
    assert found == sequential(points, order.tolist(), tolerance)
    assert 15 < found.count(0) < 27


def test_precision_set_by_its_newer_name_changes_no_leaders() -> None:
    points, order = normalise(torch.randn(100, 3)), torch.randperm(100)
    wanted, backend = assign_leaders(points, order, 0.05, None, worthwhile=0.0), torch.backends.cuda.matmul
    if not hasattr(backend, "fp32_precision"):
        pytest.skip("this torch has one name only")
    previous = backend.fp32_precision
    try:
        backend.fp32_precision = "tf32"
        found = assign_leaders(points, order, 0.05, None, worthwhile=0.0)
    finally:
        backend.fp32_precision = previous
    assert torch.equal(found, wanted)


def test_equal_points_are_within_a_tolerance_of_zero() -> None:
    points = normalise(torch.randn(1, 7)).expand(30, 7)
    assert assign_leaders(points, torch.arange(30), 0.0, None, worthwhile=0.0).tolist() == [0] * 30


def test_it_ends_early_where_hardly_anything_meets() -> None:
    points = normalise(torch.randn(100, 8))
    points[50:] = points[0]
    order = torch.arange(100)
    everything = assign_leaders(points, order, 1e-3, None, worthwhile=0.0)
    assert len(everything.unique()) == 50
    # the first block of 8 spares 50 points, the next one none
    assert torch.equal(assign_leaders(points, order, 1e-3, None, worthwhile=2.0), everything)
    assert torch.equal(
        assign_leaders(points, order, 1e-3, None, worthwhile=7.0),
        torch.arange(100).where(everything != 0, torch.tensor(0)),
    )
    points[-1] = points[20]
    assert int(assign_leaders(points, order, 1e-3, None, worthwhile=7.0)[-1]) == 99


def test_first_of_and_first_independent() -> None:
    near = torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 0, 1]])
    assert find_first_column(near).tolist() == [1, 3, 0]
    chain = torch.eye(5, dtype=torch.bool) | torch.eye(5, dtype=torch.bool).roll(1, 0)
    chain[0, 4] = False
    assert select_independent(chain | chain.T).tolist() == [0, 2, 4]
