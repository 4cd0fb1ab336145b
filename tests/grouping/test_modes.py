"""Modes: merging changes nothing that matters, labels follow the sequential rule, positions split what does not hang together."""

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from rpe.grouping import find_modes, mean_shift
from rpe.sphere import normalise
from rpe.structures import UserError

SETTINGS = {"iterations": 10, "merge_tolerance": 0.005, "move_tolerance": 1e-6}


def test_merging_keeps_the_labels(clustered) -> None:
    points = clustered(3072, 16)
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
    heavy = find_modes(
        points,
        100.0,
        iterations=0,
        merge_tolerance=0.001,
        move_tolerance=0.0,
        mass=torch.tensor([9.0, 1, 1, 1, 1]),
    )
    assert heavy.labels.tolist() == [0, 1, 1, 2, 2]


def test_ties_go_by_index_after_mergers_too() -> None:
    points = torch.eye(6)[torch.tensor([0, 1, 2, 2, 1, 0])]
    assert find_modes(
        points, 36.0, iterations=3, merge_tolerance=0.01, move_tolerance=1e-6
    ).labels.tolist() == [0, 1, 2, 2, 1, 0]


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_points_a_little_short_meet_all_the_same(tolerance: float) -> None:
    points = 0.9995 * normalise(torch.randn(1, 16)).expand(4, 16)
    modes = find_modes(points, 36.0, iterations=0, merge_tolerance=tolerance, move_tolerance=1e-6)
    assert modes.labels.tolist() == [0] * 4 and torch.allclose(modes.points.norm(dim=1), torch.ones(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_finds_the_groups_of_single(dtype: torch.dtype, clustered) -> None:
    points = clustered(800, 16)
    found = find_modes(normalise(points.to(dtype)), 36.0, **SETTINGS)
    assert (
        torch.equal(found.labels, find_modes(points, 36.0, **SETTINGS).labels)
        and found.points.dtype == torch.float32
    )


def test_sampled_keys_at_a_sharp_kernel_leave_no_point_astray(clustered) -> None:
    # one planted group, and noise on the far side that no key is near to
    points = normalise(torch.eye(8)[0] + 0.05 * torch.randn(401, 8))
    order = torch.randperm(401, generator=torch.Generator().manual_seed(0))
    drawn, noise = order[:100], int(order[-1])
    points[noise] = -torch.eye(8)[0]
    one = find_modes(points, 100.0, iterations=1, merge_tolerance=0.0, move_tolerance=0.0, keys=100)
    exact = (
        torch.softmax(100.0 * points[noise, None].double() @ points[drawn].double().T, -1)
        @ points[drawn].double()
    )
    assert torch.allclose(one.points[one.labels[noise]].double(), normalise(exact)[0], atol=1e-4)


def test_whole_positions_are_taken(plain: None) -> None:
    points, positions = torch.eye(3)[torch.randint(3, (60,))], torch.randint(0, 12, (60, 2))
    options = SETTINGS | {"spatial_bandwidth": 2.0}
    found, wanted = (
        find_modes(points, 36.0, positions=positions, **options),
        find_modes(points, 36.0, positions=positions.float(), **options),
    )
    assert torch.equal(found.labels, wanted.labels)


def test_positions_split_twins_into_connected_parts() -> None:
    points = torch.eye(3)[torch.tensor([0, 0, 0, 0, 0, 1])]
    positions = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [50.0, 0.0], [50.0, 1.0], [0.0, 3.0]])
    modes = find_modes(points, 100.0, positions=positions, spatial_bandwidth=1.5, **SETTINGS)
    assert modes.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert modes.mass.tolist() == [3, 2, 1] and torch.allclose(modes.points[2], points[5])


def test_without_blurring_points_climb_the_density_of_the_first_iterate(clustered) -> None:
    points = normalise(clustered(400, 3).double())
    found = find_modes(
        points, 36.0, iterations=500, merge_tolerance=1e-9, move_tolerance=1e-20, blurring=False
    )
    mean = torch.softmax(36.0 * found.points @ points.T, -1) @ points
    # each mode is a fixed point of the step towards the mean of X_0; blurring's end points are not
    assert torch.allclose(normalise(mean), found.points, atol=1e-7)
    ends = find_modes(points, 36.0, iterations=500, merge_tolerance=1e-9, move_tolerance=1e-20).points
    assert not torch.allclose(normalise(torch.softmax(36.0 * ends @ points.T, -1) @ points), ends, atol=1e-3)
    one = find_modes(points, 36.0, iterations=1, merge_tolerance=0.0, move_tolerance=0.0, blurring=False)
    assert torch.allclose(one.points[one.labels], mean_shift(points[None], 36.0, 1)[-1][0], atol=1e-12)


def test_it_stops_when_nothing_moves(clustered) -> None:
    points = clustered(600, 16)
    few = find_modes(points, 36.0, **SETTINGS)
    assert len(few.moves) < 10 and float(few.moves[-1]) <= SETTINGS["move_tolerance"] < float(few.moves[-2])
    assert len(find_modes(points, 36.0, **SETTINGS | {"move_tolerance": 2.0}).moves) == 1
    assert len(find_modes(points, 36.0, **SETTINGS | {"iterations": 0}).moves) == 0


def test_one_no_equal_and_antipodal_points() -> None:
    empty = find_modes(torch.zeros(0, 3), 36.0, **SETTINGS)
    assert len(empty.points) == len(empty.labels) == 0
    assert find_modes(torch.eye(3)[:1], 36.0, **SETTINGS).labels.tolist() == [0]
    assert find_modes(torch.eye(3)[:1].expand(9, 3), 36.0, **SETTINGS).mass.tolist() == [9]
    assert find_modes(torch.stack([torch.eye(3)[0], -torch.eye(3)[0]]), 36.0, **SETTINGS).labels.tolist() == [
        0,
        1,
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_tolerance": 1.0}, r"merge_tolerance must be in \[0, 1\), got 1.0"),
        ({"merge_tolerance": -0.1}, "merge_tolerance must be .*, got -0.1"),
        ({"merge_tolerance": float("nan")}, "merge_tolerance must be .*, got nan"),
        ({"move_tolerance": -1.0}, "move_tolerance must be >= 0, got -1.0"),
        ({"move_tolerance": float("nan")}, "move_tolerance must be >= 0, got nan"),
        ({"keys": 0}, "keys must be an integer >= 1, got 0"),
        ({"keys": 2.5}, "keys must be an integer >= 1, got 2.5"),
        ({"iterations": -1}, "iterations must be an integer >= 0, got -1"),
        ({"iterations": 1.5}, "iterations must be an integer >= 0, got 1.5"),
        ({"mass": torch.zeros(5)}, "mass must be in .*, got a negative, NaN or extreme value"),
        (
            {"mass": torch.full((5,), float("nan"))},
            "mass must be in .*, got a negative, NaN or extreme value",
        ),
        ({"mass": torch.full((5,), float("inf"))}, r"mass must be in \[1e-12"),
        ({"mass": torch.full((5,), 1e38)}, "mass must be in .*, got a negative, NaN or extreme value"),
        ({"concentration": [36.0]}, "concentration must be a number"),
        ({"concentration": None}, "concentration must be a number, .*, got None"),
        ({"points": [[1.0, 0.0]]}, "points must be a tensor of real numbers, got list"),
        ({"points": torch.zeros(4, 0)}, "one coordinate or more"),
        ({"points": torch.eye(3) + 0j}, "complex64"),
        ({"mass": torch.ones(4)}, r"mass must have the shape \[pixel 5\], got \[4\]"),
        ({"concentration": 1e6}, "concentration"),
        ({"concentration": torch.ones(2)}, r"concentration must be one number, .* got the shape \[2\]"),
        ({"points": torch.ones(2, 3, 4)}, r"points must have the shape \[pixel, dim\], got \[2, 3, 4\]"),
        ({"points": torch.full((5, 3), float("nan"))}, "points must be of unit length, got 5 of 5"),
        ({"points": torch.zeros(5, 3)}, "got 5 of 5"),
        ({"positions": torch.zeros(5, 2)}, "must be given together, got positions alone"),
        (
            {"positions": torch.zeros(5, 3), "spatial_bandwidth": 1.0},
            r"positions must have the shape \[5, 2\], .* got \[5, 3\]",
        ),
        (
            {"positions": torch.full((5, 2), float("nan")), "spatial_bandwidth": 1.0},
            "positions must be finite, got 5",
        ),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str, plain: None) -> None:
    arguments = {"points": normalise(torch.randn(5, 3)), "concentration": 36.0, **SETTINGS} | change
    with pytest.raises(UserError, match=message):
        find_modes(arguments.pop("points"), arguments.pop("concentration"), **arguments)
