import pytest
import torch
from torch.nn import functional

from rpe.loss import assignment_loss
from rpe.sphere import normalise
from rpe.structures import FeatureMap


def field(seed: int = 0) -> torch.Tensor:
    return normalise(
        torch.randn(1, 6, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ).movedim(-1, 1)


def dense(points: torch.Tensor, labels: torch.Tensor, kappa: float) -> torch.Tensor:
    """The formula, cell by cell, with a loop over groups."""
    x, y = points[0].flatten(1).T, labels.flatten()
    x, y = x[y >= 0], y[y >= 0]
    groups = y.unique().tolist()
    means = torch.stack([functional.normalize(x[y == group].sum(0), dim=0) for group in groups])
    p = torch.softmax(kappa * x @ means.T, 1)
    entropy = sum(-p[y == group, k].log().mean() for k, group in enumerate(groups)) / len(groups)
    dice = [
        1 - 2 * p[y == g, k].sum() / (p[:, k].sum() + (y == g).sum()) for k, g in enumerate(groups) if g > 0
    ]
    return entropy + sum(dice) / len(dice)


def test_it_is_the_formula_and_so_is_its_gradient() -> None:
    labels = torch.randint(-1, 4, (1, 6, 8), generator=torch.Generator().manual_seed(1))
    cells = field().requires_grad_()
    large = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    loss = assignment_loss(FeatureMap(cells, 4), large, 7.0)
    assert float(loss.detach()) == pytest.approx(float(dense(cells.detach(), labels, 7.0)), abs=1e-12)
    assert torch.autograd.gradcheck(
        lambda values: assignment_loss(FeatureMap(values, 4), large, 7.0), (cells,)
    )


def test_tight_groups_far_apart_cost_nothing_and_one_point_costs_most() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 2, 2]]])
    apart = torch.eye(3)[labels].movedim(-1, 1)
    assert float(assignment_loss(FeatureMap(apart, 1), labels, 40.0)) < 1e-6
    assert float(assignment_loss(FeatureMap(torch.eye(3)[labels * 0].movedim(-1, 1), 1), labels, 40.0)) > 1.0


@pytest.mark.parametrize("value", [-1, 0])
def test_an_image_without_an_object_carries_no_loss(value: int) -> None:
    cells = field().requires_grad_()
    loss = assignment_loss(FeatureMap(cells, 1), torch.full((1, 6, 8), value), 7.0)
    loss.backward()
    assert float(loss.detach()) == 0 and float(cells.grad.abs().sum()) == 0
