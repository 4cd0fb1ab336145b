import torch
from painted import grouped_of, painted, squares

from rpe.segment.groups import (
    cells_inside,
    detach_output,
    drop_small_groups,
    label_pixels,
    select_image,
    split_components,
    truth_on_grid,
)
from rpe.structures import FeatureMap, NetworkOutput, pixel_centres


def test_image_of_a_batch() -> None:
    one, other = painted(squares()), painted(squares().flip(0))
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("points", "objectness", "features")]
    batch = NetworkOutput(*(FeatureMap(torch.cat([a.values, b.values]), 1) for a, b in pairs))
    assert torch.equal(select_image(batch, 1).points.values, other.points.values)
    assert torch.equal(select_image(batch, 0).objectness.values, one.objectness.values)


def test_detached_carries_no_gradient() -> None:
    output = painted(squares())
    output.points.values.requires_grad_()
    assert (
        output.points.values.requires_grad
        and not detach_output(output, torch.device("cpu")).points.values.requires_grad
    )


def test_cells_whose_centre_lies_beyond_the_image_are_outside() -> None:
    feature = FeatureMap(torch.zeros(1, 1, 3, 4), 4)
    assert (
        cells_inside(feature, (9, 14)).tolist() == [True] * 3 + [False] + [True] * 3 + [False] + [False] * 4
    )
    assert cells_inside(feature, (11, 15)).all()


def test_parts_of_one_mode_become_groups_of_their_own() -> None:
    labels = torch.tensor([[1, 0, 1, 2], [0, 1, 0, 2], [2, 0, 0, 0]])
    modes = torch.eye(2)
    parts = split_components(grouped_of(labels, modes))
    assert parts.labels.tolist() == [[1, 0, 1, 2], [0, 1, 0, 2], [3, 0, 0, 0]], (
        "cells that meet at a corner hang together"
    )
    assert torch.equal(parts.modes, modes[[0, 1, 1]])


def test_small_groups_are_nobodys() -> None:
    labels = torch.tensor([[1, 1, 2, 3, 3, 3]])
    kept = drop_small_groups(grouped_of(labels, torch.eye(3)), 2)
    assert kept.labels.tolist() == [[1, 1, 0, 2, 2, 2]] and torch.equal(kept.modes, torch.eye(3)[[0, 2]])
    assert drop_small_groups(grouped_of(labels * 0, torch.zeros(0, 3)), 2).labels.sum() == 0


def test_truth_on_the_grid_is_the_pixel_under_each_centre() -> None:
    labels = torch.arange(35).reshape(5, 7)
    on_grid = truth_on_grid(labels, FeatureMap(torch.zeros(1, 1, 3, 4), 2))
    assert on_grid[:2, :3].tolist() == [[8, 10, 12], [22, 24, 26]]
    assert (on_grid[2] == -1).all() and (on_grid[:, 3] == -1).all(), "beyond the image is void"


def test_far_look_alikes_are_not_taken_for_near_groups() -> None:
    labels = torch.zeros(4, 12, dtype=torch.int64)
    labels[:, :3], labels[:, 9:] = 1, 2
    output = painted((labels > 0).long())
    twins = grouped_of(
        labels,
        torch.nn.functional.normalize(torch.tensor([[0.0, 1.0, 0.1, 0.0], [0.0, 1.0, 0.0, 0.0]]), dim=1),
    )
    pixels = pixel_centres((4, 12), torch.device("cpu"))
    taken, similarity = label_pixels(twins, output.points, pixels, local=True)
    assert torch.equal(taken.reshape(4, 12)[:, :3], labels[:, :3]) and torch.equal(
        taken.reshape(4, 12)[:, 9:], labels[:, 9:]
    )
    assert (taken.reshape(4, 12)[:, 4:8] == 0).all(), "no group around"
    everywhere, _ = label_pixels(twins, output.points, pixels, local=False)
    assert (everywhere.reshape(4, 12)[:, :3] == 2).all(), "the nearest of all modes is the far twin's"
    assert torch.allclose(similarity.reshape(4, 12)[:, 9:], torch.ones(4, 3))
