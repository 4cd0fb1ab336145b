"""What is drawn of an image's pixels, and what is refused."""

import torch
from loss_inputs import make_pairwise


def test_group_sampling_draws_groups_alike_and_void_last() -> None:
    labels = torch.zeros(1, 20, 20, dtype=torch.int64)
    labels[0, :2] = 1
    labels[0, 2, :] = 2
    labels[0, 10:] = -1
    positions, chosen = make_pairwise(num_pixels=60).choose_pixels(labels, torch.Generator().manual_seed(0))
    counts = torch.bincount(chosen[0] + 1, minlength=4)
    assert counts[0] == 0 and counts[2] >= 12 and counts[3] >= 12 and counts.sum() == 60
    row, column = positions[0].long().T
    assert torch.equal(labels[0, row, column], chosen[0])
    assert len(torch.unique(positions[0], dim=0)) == 60
    _, uniform = make_pairwise(num_pixels=60, sampling="uniform").choose_pixels(
        labels, torch.Generator().manual_seed(0)
    )
    assert 15 <= int((uniform == -1).sum()) <= 45
    everything, same = make_pairwise().choose_pixels(labels, torch.Generator())
    assert torch.equal(same[0], labels.flatten()) and everything[0, 21].tolist() == [1.5, 1.5]
