"""Connected parts against a flood over the dense matrices, and the order of the labels."""

import numpy as np
import torch

from rpe.grouping import parts
from rpe.grouping.parts import connected_parts, pairs_within_reach
from rpe.grouping.swarm import Swarm
from rpe.sphere import normalise


def flooded(points: torch.Tensor, places: torch.Tensor, tolerance: float) -> torch.Tensor:
    """The lowest pixel that each pixel hangs together with, by spreading until nothing changes."""
    joined = (points @ points.T >= 1 - tolerance) & ((places[:, None] - places).norm(dim=-1) <= 1)
    lowest = torch.arange(len(points))
    while True:
        spread = torch.where(joined, lowest, len(points)).min(1).values
        if torch.equal(spread, lowest):
            return lowest
        lowest = spread


def test_parts_equal_a_flood_and_come_heaviest_first(monkeypatch) -> None:
    monkeypatch.setattr(parts, "PORTION", 32)
    points = normalise(torch.randn(150, 3, dtype=torch.float64))
    places, weights = 6 * torch.rand(150, 2, dtype=torch.float64), torch.rand(150, dtype=torch.float64) + 0.5
    labels, heads = connected_parts(Swarm(points, weights, places, torch.arange(150)), places, weights, 0.5)
    reference = flooded(points, places, 0.5)
    # the same partition: as many parts, and as many pairs of the two labels
    both = torch.stack([labels, reference], 1).unique(dim=0)
    assert len(both) == len(labels.unique()) == len(reference.unique()) == len(heads) < 140
    total = torch.zeros(len(heads), dtype=torch.float64).index_add(0, labels, weights)
    assert (total.diff() <= 0).all()
    for part, head in enumerate(heads):
        assert labels[head] == part and weights[head] == weights[labels == part].max()


def test_pairs_within_reach_are_all_the_near_pairs_once() -> None:
    places = np.random.default_rng(0).random((60, 2)) * 4
    found = np.concatenate(list(pairs_within_reach(places)))
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    wanted = np.argwhere(np.triu(distance <= 1, k=1))
    assert sorted(map(tuple, found)) == sorted(map(tuple, wanted))
