"""The tiled kernel mean against dense algebra, in both directions."""

import pytest
import torch

from rpe.grouping.kernel import fused_kernel_mean, kernel_mean, mean_over_keys
from rpe.sphere import normalise


def dense(points: torch.Tensor, kappa: torch.Tensor, mass: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
    logits = kappa[:, None, None] * points @ points.transpose(1, 2) + mass.log()[:, None, :]
    if places is not None:
        logits = logits - torch.cdist(places, places).square() / 2
    return torch.softmax(logits, -1) @ points


@pytest.mark.parametrize("mean", [kernel_mean, fused_kernel_mean])
@pytest.mark.parametrize("spatial", [False, True])
def test_forward_and_gradients_equal_dense(mean, spatial) -> None:
    points = normalise(torch.randn(2, 40, 5, dtype=torch.float64)).requires_grad_()
    kappa = torch.tensor([9.0, 30.0], dtype=torch.float64, requires_grad=True)
    mass = torch.rand(2, 40, dtype=torch.float64) + 0.5
    places = 3 * torch.rand(2, 40, 2, dtype=torch.float64) if spatial else None
    pull = torch.randn(2, 40, 5, dtype=torch.float64)
    ours, reference = mean(points, kappa, mass, places), dense(points, kappa, mass, places)
    assert torch.allclose(ours, reference, atol=1e-12)
    found = torch.autograd.grad((ours * pull).sum(), [points, kappa])
    wanted = torch.autograd.grad((reference * pull).sum(), [points, kappa])
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_many_tiles_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points = normalise(torch.randn(1, 70, 3, dtype=torch.float64)).requires_grad_()
    kappa, mass = torch.tensor([20.0], dtype=torch.float64, requires_grad=True), torch.ones(1, 70, dtype=torch.float64)
    answers = []
    for tile in (512, 16):
        monkeypatch.setattr("rpe.grouping.kernel.TILE", tile)
        mean = kernel_mean(points, kappa, mass)
        answers.append([mean, *torch.autograd.grad((mean**3).sum(), [points, kappa])])
    for one, other in zip(*answers, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_absent_points_count_for_nobody() -> None:
    points = normalise(torch.randn(1, 12, 3))
    mass = torch.ones(1, 12)
    mass[0, 8:] = 0
    kappa = torch.tensor([10.0])
    assert torch.allclose(kernel_mean(points, kappa, mass)[:, :8], kernel_mean(points[:, :8], kappa, mass[:, :8]), atol=1e-6)


def test_mean_over_keys_is_the_mean_when_the_keys_are_all(clustered) -> None:
    points = clustered(3000, 8)
    mass = torch.rand(3000) + 0.5
    places = torch.rand(3000, 2)
    exact = kernel_mean(points[None], torch.tensor([36.0]), mass[None], places[None])[0]
    assert torch.allclose(mean_over_keys(points, points, mass, 36.0, places, places), exact, atol=1e-5)


def test_a_query_out_of_all_keys_reach_stays() -> None:
    query, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    assert torch.equal(mean_over_keys(query, key, torch.ones(1), 2500.0), query)
