"""Modes: merging changes nothing that matters, labels follow the sequential rule, positions split what does not hang together."""

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from rpe.grouping import find_modes, mean_shift
from rpe.grouping.modes import BLOCK, take_greedily
from rpe.sphere import normalise
from rpe.structures import InputError

SETTINGS = {"iterations": 10, "merge_tolerance": 0.005, "move_tolerance": 1e-6}


def sequential(points: torch.Tensor, order: list[int], tolerance: float) -> list[int]:
    """The rule as one would say it."""
    taker = [-1] * len(points)
    for head in order:
        if taker[head] < 0:
            for other in order:
                if taker[other] < 0 and (other == head or float(points[head] @ points[other]) >= 1 - tolerance):
                    taker[other] = head
    return taker


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.5])
def test_blocks_take_what_the_sequential_rule_takes(tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpe.grouping.modes.BLOCK", 16)
    points = normalise(torch.randn(150, 3, dtype=torch.float64))
    order = torch.randperm(150)
    assert take_greedily(points, order, tolerance, None, worthwhile=0.0).tolist() == sequential(points, order.tolist(), tolerance)


def test_merging_keeps_the_labels(clustered) -> None:
    points = clustered(3 * BLOCK, 16)
    merged = find_modes(points, 36.0, **SETTINGS)
    final = mean_shift(points[None], 36.0, 10)[-1][0]
    plain = find_modes(final, 36.0, iterations=0, merge_tolerance=0.005, move_tolerance=0.0)
    assert len(merged.points) == 12
    assert adjusted_rand_score(plain.labels, merged.labels) >= 0.999
    assert float(merged.mass.sum()) == len(points) and len(merged.moves) < 10
    assert torch.equal(merged.mass, torch.bincount(merged.labels).float())


def test_sampled_keys_find_the_same_groups(clustered) -> None:
    points = clustered(4000, 16)
    exact, sampled = find_modes(points, 36.0, **SETTINGS), find_modes(points, 36.0, keys=500, **SETTINGS)
    assert adjusted_rand_score(exact.labels, sampled.labels) >= 0.99
    again = find_modes(points, 36.0, keys=500, **SETTINGS)
    assert torch.equal(sampled.labels, again.labels)


def test_heaviest_first_and_ties_by_index() -> None:
    axes = torch.eye(3)
    points = torch.stack([axes[0], axes[1], axes[1], axes[2], axes[2]])
    modes = find_modes(points, 100.0, iterations=0, merge_tolerance=0.001, move_tolerance=0.0)
    assert modes.labels.tolist() == [2, 0, 0, 1, 1] and modes.mass.tolist() == [2, 2, 1]
    heavy = find_modes(points, 100.0, iterations=0, merge_tolerance=0.001, move_tolerance=0.0, mass=torch.tensor([9.0, 1, 1, 1, 1]))
    assert heavy.labels.tolist() == [0, 1, 1, 2, 2]


def test_positions_split_twins_into_connected_parts() -> None:
    points = torch.eye(3)[torch.tensor([0, 0, 0, 0, 0, 1])]
    positions = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [50.0, 0.0], [50.0, 1.0], [0.0, 3.0]])
    modes = find_modes(points, 100.0, positions=positions, spatial_bandwidth=1.5, **SETTINGS)
    assert modes.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert modes.mass.tolist() == [3, 2, 1] and torch.allclose(modes.points[2], points[5])


def test_one_no_equal_and_antipodal_points() -> None:
    empty = find_modes(torch.zeros(0, 3), 36.0, **SETTINGS)
    assert len(empty.points) == len(empty.labels) == 0
    assert find_modes(torch.eye(3)[:1], 36.0, **SETTINGS).labels.tolist() == [0]
    assert find_modes(torch.eye(3)[:1].expand(9, 3), 36.0, **SETTINGS).mass.tolist() == [9]
    assert find_modes(torch.stack([torch.eye(3)[0], -torch.eye(3)[0]]), 36.0, **SETTINGS).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_tolerance": 1.0}, "merge_tolerance 1.0"),
        ({"keys": 0}, "keys 0"),
        ({"mass": torch.zeros(5)}, "mass holds"),
        ({"concentration": 1e6}, "concentration"),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str) -> None:
    arguments = {"concentration": 36.0, **SETTINGS} | change
    with pytest.raises(InputError, match=message):
        find_modes(normalise(torch.randn(5, 3)), **arguments)
