"""What is drawn, how the terms are named and weighed, and what void counts."""

import pytest
import torch
from dense_loss import dense_loss

from rpe.loss import InstanceLoss, assignment_loss, objectness_loss
from rpe.sphere import normalise
from rpe.structures import FeatureMap, UserError


def make_loss(**change: object) -> InstanceLoss:
    options = dict(
        margin=0.5,
        negative_weight=1.0,
        weighting="group",
        squared=False,
        negative_range=None,
        num_pixels=60,
        sampling="group",
        iterate_weights="sum",
        objectness_weight=2.0,
        assignment_weight=0.0,
        assignment_concentration=10.0,
    )
    return InstanceLoss(**(options | change))  # type: ignore[arg-type]


def test_terms_are_named_by_iterate_and_carry_their_weights() -> None:
    labels = torch.randint(0, 3, (1, 4, 4))
    positions, chosen = make_loss(num_pixels=None).choose_pixels(labels, torch.Generator())
    points = normalise(torch.randn(1, 16, 3))
    logits = FeatureMap(torch.randn(1, 1, 4, 4), 1)
    terms = make_loss()(
        [points, points.flip(1)],
        positions,
        chosen,
        logits,
        labels,
        FeatureMap(points[0].T.reshape(1, 3, 4, 4), 1),
    )
    assert list(terms) == ["pairwise_0", "pairwise_1", "objectness"]
    assert float(terms["pairwise_1"]) == pytest.approx(
        float(dense_loss(points.flip(1), chosen, 0.5)), rel=1e-5
    )
    assert float(terms["objectness"]) == pytest.approx(2 * float(objectness_loss(logits, labels)))


def test_terms_are_squared_where_that_is_asked_for() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    loss = make_loss(num_pixels=None, squared=True)
    positions, chosen = loss.choose_pixels(labels, torch.Generator())
    terms = loss(
        [points],
        positions,
        chosen,
        FeatureMap(torch.randn(1, 1, 4, 4), 1),
        labels,
        FeatureMap(points[0].T.reshape(1, 3, 4, 4), 1),
    )
    assert float(terms["pairwise_0"]) == pytest.approx(
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
        ({"num_pixels": 1}, "loss.num_pixels 1"),
        ({"sampling": "x"}, "loss.sampling"),
        ({"margin": -1.0}, "margin"),
    ],
)
def test_wrong_loss_settings(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(**change)


def test_the_mean_of_the_iterates_does_not_grow_with_their_number() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    positions, chosen = make_loss(num_pixels=None).choose_pixels(labels, torch.Generator())
    one, mean = (
        make_loss(iterate_weights=kind).pairwise([points] * 4, positions, chosen) for kind in ("sum", "mean")
    )
    assert float(torch.stack(list(mean.values())).sum()) == pytest.approx(float(one["pairwise_0"]), rel=1e-6)
    assert [float(mean[name]) for name in mean] == pytest.approx(
        [float(value) / 4 for value in one.values()], rel=1e-6
    )
    with pytest.raises(UserError, match="loss.iterate_weights must be sum or mean, got 'x'"):
        make_loss(iterate_weights="x")


def test_the_assignment_term_carries_its_weight() -> None:
    labels, points = torch.randint(0, 3, (1, 4, 4)), normalise(torch.randn(1, 16, 3))
    positions, chosen = make_loss(num_pixels=None).choose_pixels(labels, torch.Generator())
    grid, logits = FeatureMap(points[0].T.reshape(1, 3, 4, 4), 1), FeatureMap(torch.randn(1, 1, 4, 4), 1)
    terms = make_loss(assignment_weight=3.0, assignment_concentration=5.0)(
        [points], positions, chosen, logits, labels, grid
    )
    assert float(terms["assignment"]) == pytest.approx(3 * float(assignment_loss(grid, labels, 5.0)))
    for name, value in (("assignment_weight", -1.0), ("assignment_concentration", 0.0)):
        with pytest.raises(UserError, match=f"loss.{name} must be finite and"):
            make_loss(**{name: value})
