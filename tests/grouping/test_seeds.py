"""Modes from a few seeds against those of all pixels, and the sampling of the seeds."""

from collections.abc import Callable

import pytest
import torch

from rpe.grouping import find_modes
from rpe.grouping.seeds import choose_farthest, find_modes_from_seeds
from rpe.metric.partition import adjusted_rand_index
from rpe.sphere import normalise
from rpe.structures import UserError

Clustered = Callable[..., torch.Tensor]
SETTINGS = {"iterations": 50, "merge_tolerance": 0.01, "move_tolerance": 1e-9}


def test_the_partition_is_that_of_all_pixels(clustered: Clustered) -> None:
    points = clustered(1500, 16, groups=8)
    found = find_modes_from_seeds(points, 36.0, seeds=60, keys=None, **SETTINGS)
    wanted = find_modes(points, 36.0, blurring=False, **SETTINGS)
    # two groups have equal masses, and hence no order
    assert adjusted_rand_index(wanted.labels.numpy(), found.labels.numpy()) == 1
    assert torch.equal(found.mass, wanted.mass)
    assert (1 - (found.points @ wanted.points.T).amax(1)).abs().max() < 1e-6
    assert bool((found.mass.diff() <= 0).all()) and float(found.mass.sum()) == 1500
    some = find_modes_from_seeds(points, 36.0, seeds=60, keys=600, **SETTINGS)
    assert torch.equal(some.mass, wanted.mass) and float(found.moves[-1]) <= 1e-9


def test_each_pixel_takes_the_nearest_mode_and_no_mode_is_empty() -> None:
    points = normalise(torch.randn(400, 5))
    found = find_modes_from_seeds(points, 100.0, seeds=30, keys=None, **SETTINGS)
    assert torch.equal((points @ found.points.T).argmax(1), found.labels)
    assert torch.equal(torch.bincount(found.labels, minlength=len(found.points)).float(), found.mass)
    assert bool((found.mass > 0).all())


def test_the_farthest_points_are_chosen_one_by_one() -> None:
    points = normalise(torch.randn(40, 3))
    chosen = choose_farthest(points, 6).tolist()
    assert chosen[0] == 0 and len(set(chosen)) == 6
    for number in range(1, 6):
        nearest = (points @ points[chosen[:number]].T).amax(1)
        assert chosen[number] == int(nearest.argmin())
    assert choose_farthest(points, 40).tolist() == list(range(40))


def test_no_pixel_one_pixel_and_wrong_settings(plain: None) -> None:
    options = {"seeds": 3, "keys": None, **SETTINGS}
    assert len(find_modes_from_seeds(torch.zeros(0, 3), 36.0, **options).points) == 0
    assert find_modes_from_seeds(torch.eye(3)[:1], 36.0, **options).labels.tolist() == [0]
    assert len(find_modes_from_seeds(torch.eye(3), 36.0, **options | {"iterations": 0}).points) == 3
    with pytest.raises(UserError, match="seeds must be an integer >= 1, got 0"):
        find_modes_from_seeds(torch.eye(3), 36.0, **options | {"seeds": 0})
    with pytest.raises(UserError, match="points must be of unit length"):
        find_modes_from_seeds(torch.zeros(4, 3), 36.0, **options)
