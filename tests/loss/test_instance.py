"""What is drawn, how the terms are named and weighed, and what void counts."""

import pytest
import torch
from dense_loss import dense_loss

from rpe.loss import InstanceLoss, objectness_loss
from rpe.sphere import normalise
from rpe.structures import FeatureMap, UserError


def make_loss(**change: object) -> InstanceLoss:
    options = dict(
        margin=0.5, negative_weight=1.0, weighting="group", squared=False, negative_range=None, pixels=60, sampling="group", objectness_weight=2.0
    )
    return InstanceLoss(**(options | change))  # type: ignore[arg-type]


def test_terms_are_named_by_iterate_and_carry_their_weights() -> None:
    labels = torch.randint(0, 3, (1, 4, 4))
    positions, chosen = make_loss(pixels=None).choose_pixels(labels, torch.Generator())
    points = normalise(torch.randn(1, 16, 3))
    logits = FeatureMap(torch.randn(1, 1, 4, 4), 1)
    terms = make_loss()([points, points.flip(1)], positions, chosen, logits, labels)
    assert list(terms) == ["pairwise_0", "pairwise_1", "objectness"]
    assert float(terms["pairwise_1"]) == pytest.approx(float(dense_loss(points.flip(1), chosen, 0.5)), rel=1e-5)
    assert float(terms["objectness"]) == pytest.approx(2 * float(objectness_loss(logits, labels)))


def test_terms_are_squared_where_that_is_asked_for() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    loss = make_loss(pixels=None, squared=True)
    positions, chosen = loss.choose_pixels(labels, torch.Generator())
    terms = loss([points], positions, chosen, FeatureMap(torch.randn(1, 1, 4, 4), 1), labels)
    assert float(terms["pairwise_0"]) == pytest.approx(float(dense_loss(points, chosen, 0.5, squared=True)), rel=1e-5)


def test_objectness_leaves_void_out() -> None:
    labels = torch.tensor([[[1, 0], [-1, 5]]])
    logits = torch.tensor([[[[2.0, -1.0], [100.0, 0.5]]]])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 1.0]))
    assert float(objectness_loss(FeatureMap(logits, 1), labels)) == pytest.approx(float(wanted))
    assert float(objectness_loss(FeatureMap(logits, 1), torch.full_like(labels, -1))) == 0


@pytest.mark.parametrize(
    ("change", "message"), [({"pixels": 1}, "loss.pixels 1"), ({"sampling": "x"}, "loss.sampling"), ({"margin": -1.0}, "margin")]
)
def test_wrong_loss_settings(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(**change)
