"""Merging keeps mass, means and owners; a sample is the same on every device."""

import torch

from rpe.grouping.weighted_points import WeightedPoints, merge_close, sample_keys, sort_by_pixel
from rpe.sphere import normalise


def start_points(
    points: torch.Tensor, mass: list[float], positions: torch.Tensor | None = None
) -> WeightedPoints:
    return WeightedPoints(points, torch.tensor(mass), positions, torch.arange(len(points)))


def test_merged_points_lie_at_their_mean_and_weigh_their_sum() -> None:
    points = normalise(torch.tensor([[1.0, 0.02], [0.0, 1.0], [1.0, -0.01]]))
    positions = torch.tensor([[0.0, 0.0], [5.0, 5.0], [0.1, 0.2]])
    weighted = merge_close(start_points(points, [1.0, 4.0, 2.0], positions), 0.01)
    assert weighted.mass.tolist() == [4.0, 3.0] and weighted.owner.tolist() == [1, 0, 1]
    assert torch.allclose(weighted.points[1], normalise(points[0] + 2 * points[2]))
    assert weighted.positions is not None and torch.allclose(
        weighted.positions[1], torch.tensor([0.2, 0.4]) / 3
    )
    far = torch.tensor([[0.0, 0.0], [5.0, 5.0], [0.0, 0.3]])
    assert len(merge_close(start_points(points, [1.0, 4.0, 2.0], far), 0.01).points) == 3


def test_owners_follow_through_two_mergers() -> None:
    points = torch.eye(4)[torch.tensor([0, 1, 0, 2, 1])]
    weighted = merge_close(start_points(points, [1.0] * 5), 0.001)
    weighted.points = torch.stack([points[0] if bool(point[1] == 1) else point for point in weighted.points])
    again = merge_close(weighted, 0.001)
    assert sorted(again.mass.tolist()) == [1.0, 4.0]
    assert [again.mass[owner].item() for owner in again.owner] == [4.0, 4.0, 4.0, 1.0, 4.0]


def test_points_numbered_by_their_lowest_pixel() -> None:
    weighted = WeightedPoints(
        torch.eye(3),
        torch.tensor([1.0, 2.0, 3.0]),
        2.0 * torch.eye(3)[:, :2],
        torch.tensor([2, 0, 2, 1, 1]),
        4.0,
    )
    ordered = sort_by_pixel(weighted)
    assert (
        ordered.owner.tolist() == [0, 1, 0, 2, 2]
        and ordered.mass.tolist() == [3.0, 1.0, 2.0]
        and ordered.spatial_bandwidth == 4
    )
    assert torch.equal(ordered.points[ordered.owner], weighted.points[weighted.owner])
    assert ordered.positions is not None and torch.equal(
        ordered.positions[ordered.owner], weighted.positions[weighted.owner]
    )


def test_nothing_to_merge_changes_nothing() -> None:
    weighted = start_points(torch.eye(3), [1.0, 2.0, 3.0])
    assert merge_close(weighted, 0.01) is weighted


def test_a_sample_is_drawn_without_replacement_and_twice_the_same() -> None:
    weighted = start_points(normalise(torch.randn(50, 3)), [1.0] * 50, torch.rand(50, 2))
    one, other = sample_keys(weighted, 20), sample_keys(weighted, 20)
    assert torch.equal(one.points, other.points) and len(torch.unique(one.points, dim=0)) == 20
    where = (weighted.points[:, None] == one.points).all(-1).nonzero()
    assert one.positions is not None and torch.equal(
        one.positions[where[:, 1]], weighted.positions[where[:, 0]]
    )
    assert len(sample_keys(weighted, 80).owner) == 50
