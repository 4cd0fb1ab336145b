"""The hinge's blocks: those out of range are skipped, and a pair at the range counts."""

import pytest
import torch
from dense_loss import dense_loss

from rpe.loss import pairwise_margin_loss
from rpe.loss.hinge import blockwise_hinge
from rpe.sphere import normalise
from rpe.structures import pixel_centres


@pytest.mark.parametrize("squared", [False, True])
def test_value_and_gradient_are_those_of_the_sum_over_pairs(squared: bool) -> None:
    points = normalise(torch.randn(1, 20, 4, dtype=torch.float64)).requires_grad_()
    labels = (torch.arange(20) // 5 - 1)[None]  # sorted, void first
    weights = torch.where(labels < 0, 0.0, torch.rand(1, 20, dtype=torch.float64))
    value, gradient = blockwise_hinge(points, labels, weights, 0.1, None, float("inf"), squared)
    over = ((points[0] @ points[0].T - 0.1) / 2).clamp(min=0)
    pairs = weights[0][:, None] * weights[0] * (labels[0][:, None] != labels[0])
    wanted = (pairs * (over**2 / 2 if squared else over)).sum()
    assert float(value) == pytest.approx(float(wanted), rel=1e-12)
    assert torch.allclose(gradient, torch.autograd.grad(wanted, [points])[0], atol=1e-12)


def test_tiles_out_of_range_are_skipped_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpe.loss.hinge.BLOCK", 8)
    points = normalise(torch.randn(1, 24, 3, dtype=torch.float64))
    labels = torch.arange(24)[None] // 8
    positions = torch.rand(1, 24, 2, dtype=torch.float64)
    positions[..., 1] += 1.5 * labels
    for reach in (0.4, 1.2, 2.2):
        options = {"positions": positions, "negative_range": reach}
        assert float(pairwise_margin_loss(points, labels, 0.2, **options)) == pytest.approx(
            float(dense_loss(points, labels, 0.2, **options)), abs=1e-12
        )


@pytest.mark.parametrize("max_distance", [3.0, 5.0, 10.0])
@pytest.mark.parametrize("far", [0.0, 2048.0])
def test_a_pair_just_at_the_range_counts(max_distance: float, far: float) -> None:
    # equal points, each pixel a group of its own: the hinge is half the share of the pairs within range
    positions = pixel_centres((32, 32), torch.device("cpu")) + far
    squares = (positions[:, None] - positions).long().square().sum(-1)
    within = int((squares <= int(max_distance) ** 2).sum()) - 1024
    loss = pairwise_margin_loss(
        torch.eye(3)[:1].expand(1, 1024, 3),
        torch.arange(1024)[None],
        0.5,
        positions=positions[None],
        negative_range=max_distance,
    )
    assert float(loss) * 2 * 1024**2 == pytest.approx(within, abs=0.5)
