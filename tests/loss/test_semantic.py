"""The terms with their weights, and that void counts in none."""

import pytest
import torch
from dense_loss import dense_loss
from loss_inputs import make_batch, make_output, make_pairwise

from rpe.loss import SemanticLoss, class_loss
from rpe.sphere import normalise
from rpe.structures import FeatureMap, UserError


def make_loss(class_weight: float = 2.0, **pairwise: object) -> SemanticLoss:
    return SemanticLoss(make_pairwise(**({"weight": 3.0} | pairwise)), class_weight)


def test_terms_carry_their_weights() -> None:
    labels, categories = torch.randint(0, 3, (1, 4, 4)), torch.tensor([0, 4, 2])
    positions, chosen = make_pairwise().choose_pixels(labels, torch.Generator())
    points, logits = normalise(torch.randn(1, 16, 3)), FeatureMap(torch.randn(1, 5, 4, 4), 1)
    output, batch = make_output(points, classes=logits), make_batch(labels, categories)
    terms = make_loss()([points, points.flip(1)], positions, chosen, output, batch)
    assert list(terms) == ["pairwise_0", "pairwise_1", "classes"]
    assert float(terms["pairwise_1"]) == pytest.approx(
        3 * float(dense_loss(points.flip(1), chosen, 0.5)), rel=1e-5
    )
    assert float(terms["classes"]) == pytest.approx(
        2 * float(torch.nn.functional.cross_entropy(logits.values, categories[labels])), rel=1e-5
    )
    assert list(make_loss(weight=0.0)([], positions, chosen, output, batch)) == ["classes"]


def test_void_changes_neither_loss_nor_gradient() -> None:
    classes = torch.tensor([[[2, 0, -1], [-1, 1, 2]]])
    values = torch.randn(1, 3, 2, 3, requires_grad=True)
    loss = class_loss(FeatureMap(values, 1), classes)
    wanted = torch.nn.functional.cross_entropy(values[0, :, classes[0] >= 0].T, classes[classes >= 0])
    assert float(loss) == pytest.approx(float(wanted), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, values)
    assert (gradient[0, :, classes[0] < 0] == 0).all() and (gradient[0, :, classes[0] >= 0] != 0).all()
    other = values.detach().clone()
    other[0, :, classes[0] < 0] = 1000 * torch.randn(3, 2)
    assert float(class_loss(FeatureMap(other, 1), classes)) == float(loss.detach())
    nothing = class_loss(FeatureMap(values, 1), torch.full_like(classes, -1))
    assert float(nothing) == 0 and not torch.autograd.grad(nothing, values)[0].any()


def test_logits_are_read_between_the_cells() -> None:
    """Linear logits over the columns of a grid of stride 2 are linear at the pixels between them too."""
    values = torch.stack([torch.zeros(2, 4), torch.arange(4.0).expand(2, 4)])[None]
    classes = torch.ones(1, 4, 8, dtype=torch.int64)
    columns = (torch.arange(8) + 0.5).clamp(1, 7) / 2 - 0.5
    wanted = torch.nn.functional.softplus(-columns).mean()
    assert float(class_loss(FeatureMap(values, 2), classes)) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -1.0}, "loss.pairwise.weight must be finite and >= 0, got -1"),
        ({"class_weight": -1.0}, "loss.class_weight must be finite and >= 0, got -1"),
        ({"class_weight": 0.0, "weight": 0.0}, "must be > 0, got 0 for both"),
    ],
)
def test_wrong_weights_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(**change)
