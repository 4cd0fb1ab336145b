"""The blockwise kernel mean against dense algebra, in both directions."""

import pytest
import torch

from rpe.grouping.kernel import fused_kernel_mean, kernel_mean, mean_over_keys
from rpe.sphere import normalise
from rpe.structures import UserError


def dense(
    points: torch.Tensor, kappa: torch.Tensor, mass: torch.Tensor, positions: torch.Tensor | None
) -> torch.Tensor:
    logits = kappa[:, None, None] * points @ points.transpose(1, 2) + mass.log()[:, None, :]
    if positions is not None:
        logits = logits - torch.cdist(positions, positions).square() / 2
    return torch.softmax(logits, -1) @ points


@pytest.mark.parametrize("mean", [kernel_mean, fused_kernel_mean])
@pytest.mark.parametrize("spatial", [False, True])
def test_forward_and_gradients_equal_dense(mean, spatial) -> None:
    points = normalise(torch.randn(2, 40, 5, dtype=torch.float64)).requires_grad_()
    kappa = torch.tensor([9.0, 30.0], dtype=torch.float64, requires_grad=True)
    mass = torch.rand(2, 40, dtype=torch.float64) + 0.5
    positions = 3 * torch.rand(2, 40, 2, dtype=torch.float64) if spatial else None
    pull = torch.randn(2, 40, 5, dtype=torch.float64)
    ours, reference = mean(points, kappa, mass, positions), dense(points, kappa, mass, positions)
    assert torch.allclose(ours, reference, atol=1e-12)
    found = torch.autograd.grad((ours * pull).sum(), [points, kappa])
    wanted = torch.autograd.grad((reference * pull).sum(), [points, kappa])
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_many_tiles_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points = normalise(torch.randn(1, 70, 3, dtype=torch.float64)).requires_grad_()
    kappa, mass = (
        torch.tensor([20.0], dtype=torch.float64, requires_grad=True),
        torch.ones(1, 70, dtype=torch.float64),
    )
    answers = []
    for block in (512, 16):
        monkeypatch.setattr("rpe.grouping.kernel.BLOCK", block)
        mean = kernel_mean(points, kappa, mass)
        answers.append([mean, *torch.autograd.grad((mean**3).sum(), [points, kappa])])
    for one, other in zip(*answers, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_absent_points_count_for_nobody() -> None:
    points = normalise(torch.randn(1, 12, 3))
    mass = torch.ones(1, 12)
    mass[0, 8:] = 0
    kappa = torch.tensor([10.0])
    assert torch.allclose(
        kernel_mean(points, kappa, mass)[:, :8], kernel_mean(points[:, :8], kappa, mass[:, :8]), atol=1e-6
    )


def test_mean_over_keys_is_the_mean_when_the_keys_are_all(clustered) -> None:
    points = clustered(3000, 8)
    mass = torch.rand(3000) + 0.5
    positions = torch.rand(3000, 2)
    exact = kernel_mean(points[None], torch.tensor([36.0]), mass[None], positions[None])[0]
    assert torch.allclose(mean_over_keys(points, points, mass, 36.0, positions, positions), exact, atol=1e-5)


@pytest.mark.parametrize("concentration", [36.0, 45.0, 50.0, 100.0, 2500.0])
@pytest.mark.parametrize("spatial", [False, True])
def test_queries_far_from_all_keys_go_where_the_nearest_are(concentration: float, spatial: bool) -> None:
    # keys around e_1, queries around -e_1: the weights exp(-2 kappa) are below what fp32 holds
    keys = normalise(torch.eye(3)[0] + 0.2 * torch.randn(300, 3))
    queries, mass = torch.cat([-keys[:50], keys[:50]]), torch.rand(300) + 0.5
    positions = [30 * torch.rand(count, 2) if spatial else None for count in (100, 300)]
    logits = concentration * queries.double() @ keys.double().T + mass.double().log()
    if positions[0] is not None and positions[1] is not None:
        logits = logits - (positions[0].double()[:, None] - positions[1].double()).square().sum(-1) / 2
    found = mean_over_keys(queries, keys, mass, concentration, *positions)
    # single precision rounds a logit of 2 kappa by 1e-7 of it
    assert torch.allclose(
        found.double(),
        torch.softmax(logits, -1) @ keys.double(),
        atol=1e-6 * max(concentration, 100.0 if spatial else 10.0),
    )


def test_places_beyond_all_measure_give_no_nan() -> None:
    query, key, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1e18, 0.0]])
    assert bool(
        mean_over_keys(query, key, torch.ones(1), 36.0, torch.zeros(1, 2), far, 1e-6).isfinite().all()
    )


def test_fused_absent_points_may_be_anything() -> None:
    points, kappa, mass = normalise(torch.randn(2, 12, 3)), torch.tensor([10.0, 2500.0]), torch.ones(2, 12)
    mass[:, 8:] = 0
    spoilt, positions = points.clone(), torch.rand(2, 12, 2)
    spoilt[:, 8], spoilt[:, 9], spoilt[:, 10] = float("nan"), float("inf"), 1e4
    positions[:, 8:] = 1e5
    spoilt.requires_grad_()
    for place in (None, positions):
        found = fused_kernel_mean(spoilt, kappa, mass, place)
        wanted = fused_kernel_mean(points[:, :8], kappa, mass[:, :8], None if place is None else place[:, :8])
        assert torch.allclose(found[:, :8], wanted, atol=1e-5)
        (gradient,) = torch.autograd.grad(found[:, :8].sum(), [spoilt])
        assert bool(gradient.isfinite().all()) and bool((gradient[:, 8:] == 0).all())


def test_a_second_derivative_is_refused() -> None:
    points = normalise(torch.randn(1, 5, 3)).requires_grad_()
    mean = kernel_mean(points, torch.tensor([9.0]), torch.ones(1, 5))
    with pytest.raises(UserError, match="the blockwise mean shift, got True. It has no second derivative"):
        torch.autograd.grad(mean.sum(), [points], create_graph=True)
