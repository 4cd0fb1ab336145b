"""Connected parts against their definition, and the order of the labels."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial import cKDTree

from rpe.grouping import find_modes, parts
from rpe.grouping.parts import find_components, label_components
from rpe.grouping.weighted_points import WeightedPoints
from rpe.sphere import normalise


def define_components(
    points: torch.Tensor, positions: torch.Tensor, tolerance: float, max_distance: float = 1.0
) -> torch.Tensor:
    """Return an id of the component of each pixel: all near pairs, and a library's components of the graph."""
    pairs = cKDTree(positions.numpy()).query_pairs(max_distance, output_type="ndarray")
    one, other = torch.from_numpy(pairs).T
    alike = (points[one] * points[other]).sum(-1) >= 1 - tolerance
    ends = (one[alike].numpy(), other[alike].numpy())
    graph = sparse.coo_matrix((np.ones(len(ends[0]), dtype=bool), ends), shape=(len(points), len(points)))
    return torch.from_numpy(sparse.csgraph.connected_components(graph, directed=False)[1])


def test_parts_equal_their_definition_and_come_heaviest_first(monkeypatch) -> None:
    monkeypatch.setattr(parts, "PAIRS_AT_ONCE", 32)
    points = normalise(torch.randn(150, 3, dtype=torch.float64))
    positions, weights = (
        6 * torch.rand(150, 2, dtype=torch.float64),
        torch.rand(150, dtype=torch.float64) + 0.5,
    )
    labels, heads = label_components(
        WeightedPoints(points, weights, positions, torch.arange(150)), positions, weights, 0.5
    )
    reference = define_components(points, positions, 0.5)
    # the same partition: as many parts, and as many pairs of the two labels
    both = torch.stack([labels, reference], 1).unique(dim=0)
    assert len(both) == len(labels.unique()) == len(reference.unique()) == len(heads) < 140
    total = torch.zeros(len(heads), dtype=torch.float64).index_add(0, labels, weights)
    assert (total.diff() <= 0).all()
    for part, head in enumerate(heads):
        assert labels[head] == part and weights[head] == weights[labels == part].max()


@pytest.mark.parametrize("max_distance", [0.3, 2.5, 5.0, 13.0])
@pytest.mark.parametrize("portion", [7, 2**15])
def test_points_that_stand_for_many_pixels_give_the_parts_of_the_pixels(
    max_distance: float, portion: int, monkeypatch
) -> None:
    monkeypatch.setattr(parts, "PAIRS_AT_ONCE", portion)
    random = np.random.default_rng(0)
    points, owner = (
        normalise(torch.randn(9, 3, dtype=torch.float64)),
        torch.from_numpy(random.integers(0, 9, 400)),
    )
    # few whole pixels of a large image: pairs exactly at the maximum distance, wide gaps, and two pixels at one place
    positions = torch.from_numpy(
        np.concatenate([random.integers(-40, 40, (300, 2)), random.integers(10**6, 10**6 + 30, (100, 2))])
    ).double()
    weighted = WeightedPoints(points, torch.rand(9, dtype=torch.float64), positions[:9], owner, max_distance)
    labels, heads = label_components(weighted, positions, torch.ones(400), 0.2)
    reference = define_components(points[owner], positions, 0.2, max_distance)
    assert (
        len(torch.stack([labels, reference], 1).unique(dim=0))
        == len(labels.unique())
        == len(reference.unique())
        == len(heads)
    )


def test_a_pair_just_at_the_bandwidth_hangs_together() -> None:
    positions = 3.0 * torch.arange(40)[:, None] * torch.tensor([1.0, 4 / 3])
    modes = find_modes(
        torch.eye(3)[:1].expand(40, 3),
        36.0,
        iterations=0,
        merge_tolerance=0.01,
        move_tolerance=0.0,
        positions=positions,
        spatial_bandwidth=5.0,
    )
    assert modes.labels.tolist() == [0] * 40


def test_memory_does_not_grow_with_the_bandwidth() -> None:
    positions = np.stack(np.meshgrid(np.arange(96.0), np.arange(96.0), indexing="ij"), -1).reshape(-1, 2)
    owner, points = np.arange(96 * 96) // 48 % 2, np.eye(2)
    peaks = []
    for max_distance in (3.0, 24.0):
        tracemalloc.start()
        part = find_components(positions, owner, points, max_distance, 0.01)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(np.unique(part)) == 2
    # all pairs within a distance of 24 would take 8.3 million entries of 16 bytes
    assert peaks[1] < 2 * peaks[0] < 30e6
