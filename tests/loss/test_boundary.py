"""Balance, void, annotators drawn, and terms by hand."""

import pytest
import torch
from dense_loss import dense_loss
from loss_inputs import make_pairwise

from rpe.loss import BoundaryLoss, balanced_logistic
from rpe.sphere import normalise
from rpe.structures import VOID, Boundaries, BoundaryBatch, FeatureMap, UserError


def make_loss(
    grouping_target: str = "boundary",
    stage_weight: float = 3.0,
    boundary_share: float = 0.5,
    weight: float = 2.0,
) -> BoundaryLoss:
    return BoundaryLoss(make_pairwise(weight=weight), grouping_target, stage_weight, boundary_share)


def make_batch(segments: torch.Tensor, labels: torch.Tensor) -> BoundaryBatch:
    images = torch.zeros(len(labels), 3, *labels.shape[1:])
    return BoundaryBatch(
        images, labels, [0] * len(labels), [(4, 4)] * len(labels), segments, ["x"] * len(labels)
    )


def test_each_class_weighs_its_share_and_void_nothing() -> None:
    logits = torch.tensor([[[[2.0, -1.0, 50.0], [0.5, -3.0, 1.0]]]])
    labels = torch.tensor([[[1, 0, VOID], [0, 0, 1]]])
    on = torch.nn.functional.softplus(-torch.tensor([2.0, 1.0])).mean()
    off = torch.nn.functional.softplus(torch.tensor([-1.0, 0.5, -3.0])).mean()
    for share in (0.5, 0.2):
        assert float(balanced_logistic(FeatureMap(logits, 1), labels, share)) == pytest.approx(
            float(share * on + (1 - share) * off)
        )
    both = balanced_logistic(
        FeatureMap(logits.expand(2, -1, -1, -1), 1), torch.cat([labels, torch.full_like(labels, VOID)]), 0.5
    )
    assert float(both) == pytest.approx(float((on + off) / 4))
    assert float(balanced_logistic(FeatureMap(logits, 1), torch.zeros_like(labels), 0.5)) == pytest.approx(
        float(torch.nn.functional.softplus(logits).mean() / 2)
    )


def test_terms_by_hand() -> None:
    labels = torch.tensor([[[1, 0, VOID, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]])
    loss = make_loss()
    batch = make_batch(labels[:, None] * 0, labels)
    positions, groups = loss.pairwise.choose_pixels(
        loss.groups_of(batch, torch.Generator()), torch.Generator()
    )
    points = [normalise(torch.randn(1, 16, 3)) for _ in range(4)]
    maps = [FeatureMap(torch.randn(1, 1, 4, 4), 1) for _ in range(3)]
    output = Boundaries(maps[:2], maps[:2], maps[2])
    terms = loss([points[:2], points[2:]], positions, groups, output, batch)
    assert list(terms) == ["pairwise_0", "pairwise_1", "stages", "fused"]
    first, second = (float(dense_loss(points[index], groups, 0.5)) for index in (0, 2))
    assert float(terms["pairwise_0"]) == pytest.approx(first + second, rel=1e-5), "twice the mean of two"
    single = [float(balanced_logistic(one, labels, 0.5)) for one in maps]
    assert float(terms["stages"]) == pytest.approx(1.5 * (single[0] + single[1]), rel=1e-6) and float(
        terms["fused"]
    ) == pytest.approx(single[2])
    assert list(loss([], positions, groups, output, batch)) == ["stages", "fused"]


def test_segments_are_those_of_an_annotator_who_is_there() -> None:
    segments = torch.full((2, 3, 4, 4), VOID)
    segments[0, 0], segments[1, 0], segments[1, 1] = 5, 6, 7
    batch = make_batch(segments, torch.zeros(2, 4, 4, dtype=torch.int64))
    assert make_loss().groups_of(batch, torch.Generator()) is batch.labels
    generator = torch.Generator().manual_seed(0)
    drawn = [
        make_loss(grouping_target="segments").groups_of(batch, generator)[:, 0, 0].tolist() for _ in range(20)
    ]
    assert {first for first, _ in drawn} == {5} and {second for _, second in drawn} == {6, 7}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grouping_target": "x"}, "loss.grouping_target must be boundary or segments, got 'x'"),
        ({"weight": -1.0}, "loss.pairwise.weight must be finite and >= 0, got -1"),
        ({"stage_weight": -1.0}, "loss.stage_weight must be finite and >= 0, got -1"),
        ({"boundary_share": 1.0}, "loss.boundary_share must be between 0 and 1, got 1"),
    ],
)
def test_wrong_settings(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(**change)
