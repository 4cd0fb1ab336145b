"""What is drawn, how the terms are named and weighed, and what void counts."""

import pytest
import torch
from dense_loss import dense_loss
from loss_inputs import make_batch, make_output, make_pairwise

from rpe.loss import InstanceLoss, assignment_loss, objectness_loss
from rpe.sphere import normalise
from rpe.structures import FeatureMap, UserError


def make_loss(
    objectness_weight: float = 2.0,
    assignment_weight: float = 0.0,
    assignment_concentration: float = 10.0,
    **pairwise: object,
) -> InstanceLoss:
    return InstanceLoss(
        make_pairwise(**pairwise), objectness_weight, assignment_weight, assignment_concentration
    )


def test_terms_are_named_by_iterate_and_carry_their_weights() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    loss = make_loss(weight=3.0)
    positions, chosen = loss.pairwise.choose_pixels(labels, torch.Generator())
    output = make_output(points)
    terms = loss([points, points.flip(1)], positions, chosen, output, make_batch(labels))
    assert list(terms) == ["pairwise_0", "pairwise_1", "objectness"]
    assert float(terms["pairwise_1"]) == pytest.approx(
        3 * float(dense_loss(points.flip(1), chosen, 0.5)), rel=1e-5
    )
    assert float(terms["objectness"]) == pytest.approx(2 * float(objectness_loss(output.objectness, labels)))


def test_pairwise_terms_are_squared_on_request() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    loss = make_pairwise(squared=True)
    positions, chosen = loss.choose_pixels(labels, torch.Generator())
    assert float(loss([points], positions, chosen)["pairwise_0"]) == pytest.approx(
        float(dense_loss(points, chosen, 0.5, squared=True)), rel=1e-5
    )


def test_objectness_leaves_void_out() -> None:
    labels = torch.tensor([[[1, 0], [-1, 5]]])
    logits = torch.tensor([[[[2.0, -1.0], [100.0, 0.5]]]])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 1.0])
    )
    assert float(objectness_loss(FeatureMap(logits, 1), labels)) == pytest.approx(float(wanted))
    assert float(objectness_loss(FeatureMap(logits, 1), torch.full_like(labels, -1))) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_pixels": 1}, "loss.pairwise.num_pixels must be >= 2 to make a pair, got 1"),
        ({"sampling": "x"}, "loss.pairwise.sampling must be uniform or group, got 'x'"),
        ({"iterate_weights": "x"}, "loss.pairwise.iterate_weights must be sum or mean, got 'x'"),
        ({"weight": float("inf")}, "loss.pairwise.weight must be finite and >= 0, got inf"),
        ({"margin": -1.0}, "margin"),
        ({"objectness_weight": -1.0}, "loss.objectness_weight must be finite and >= 0, got -1"),
        ({"assignment_weight": -1.0}, "loss.assignment_weight must be finite and >= 0, got -1"),
        ({"assignment_concentration": 0.0}, "loss.assignment_concentration must be finite and > 0, got 0"),
    ],
)
def test_wrong_loss_settings(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(**change)


def test_the_mean_of_the_iterates_does_not_grow_with_their_number() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    positions, chosen = make_pairwise().choose_pixels(labels, torch.Generator())
    one, mean = (
        make_pairwise(iterate_weights=kind)([points] * 4, positions, chosen) for kind in ("sum", "mean")
    )
    assert float(torch.stack(list(mean.values())).sum()) == pytest.approx(float(one["pairwise_0"]), rel=1e-6)
    assert [float(mean[name]) for name in mean] == pytest.approx(
        [float(value) / 4 for value in one.values()], rel=1e-6
    )


def test_the_assignment_term_carries_its_weight() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    loss = make_loss(assignment_weight=3.0, assignment_concentration=5.0)
    positions, chosen = loss.pairwise.choose_pixels(labels, torch.Generator())
    output = make_output(points)
    terms = loss([points], positions, chosen, output, make_batch(labels))
    assert float(terms["assignment"]) == pytest.approx(3 * float(assignment_loss(output.points, labels, 5.0)))
