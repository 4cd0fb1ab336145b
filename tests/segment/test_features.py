import math

import pytest
import torch
from painted import grouped_of, painted, squares

from rpe.segment.features import HANDCRAFTED, compute_best_ious, compute_group_features
from rpe.segment.groups import GroupMap
from rpe.structures import FeatureMap


def described(grouped: GroupMap, stride: int = 1) -> dict[str, torch.Tensor]:
    return dict(
        zip(
            HANDCRAFTED,
            compute_group_features(grouped, painted(squares(), stride)).handcrafted.unbind(1),
            strict=True,
        )
    )


def test_features_of_rectangles_by_hand() -> None:
    grouped = grouped_of(squares(), torch.eye(4)[1:])
    feature = described(grouped, stride=2)
    sure, unsure = torch.tensor(8.0).sigmoid(), torch.tensor(-8.0).sigmoid()
    assert feature["log-area"].tolist() == pytest.approx([math.log(4 * area) for area in (24, 36, 48)])
    assert torch.allclose(feature["objectness"], sure.expand(3)) and torch.allclose(
        feature["cohesion"], torch.ones(3)
    )
    assert torch.allclose(feature["loosest"], torch.ones(3)) and torch.allclose(
        feature["objectness-spread"], torch.zeros(3), atol=1e-3
    )
    assert torch.allclose(feature["fill"], torch.ones(3))
    assert feature["aspect"].tolist() == pytest.approx([4 / 6, 1, 6 / 8])
    assert feature["compactness"].tolist() == pytest.approx(
        [4 * math.pi * a / p**2 for a, p in ((24, 20), (36, 24), (48, 28))]
    )
    # 6 of the first one's 20 sides and of the second one's 24 touch each other, the rest background; other axes are at right angles
    assert feature["objectness-around"].tolist() == pytest.approx(
        [float((6 * sure + 14 * unsure) / 20), float((6 * sure + 18 * unsure) / 24), float(unsure)]
    )
    assert torch.allclose(feature["similarity-around"], torch.full((3,), 0.5))


def test_a_loose_group_shows_it() -> None:
    labels = torch.where(squares() == 2, 1, squares())
    feature = described(grouped_of(torch.where(labels == 3, 2, labels), torch.eye(4)[[1, 3]]))
    assert feature["cohesion"].tolist() == pytest.approx([(24 * 1 + 36 * 0.5) / 60, 1]) and feature[
        "loosest"
    ].tolist() == [0.5, 1]


def test_pooled_features_are_means_and_no_gradient_flows() -> None:
    output = painted(squares())
    output.features = FeatureMap(torch.arange(12 * 16.0).reshape(1, 1, 12, 16).requires_grad_(), 1)
    pooled = compute_group_features(grouped_of(squares(), torch.eye(4)[1:]), output).pooled
    wanted = [float(output.features.values[0, 0][squares() == k].mean()) for k in (1, 2, 3)]
    assert pooled[:, 0].tolist() == pytest.approx(wanted) and not pooled.requires_grad


def test_nothing_grouped() -> None:
    none = compute_group_features(
        grouped_of(torch.zeros(12, 16, dtype=torch.int64), torch.zeros(0, 4)), painted(squares())
    )
    assert none.handcrafted.shape == (0, len(HANDCRAFTED)) and none.pooled.shape == (0, 4)


def test_quality_is_the_best_overlap_and_void_does_not_count() -> None:
    truth = torch.tensor([[1, 1, 1, 0], [2, 2, 0, -1]])
    found = torch.tensor([[1, 1, 2, 2], [3, 3, 3, 3]])
    grouped = grouped_of(found, torch.eye(3))
    assert compute_best_ious(grouped, truth).tolist() == pytest.approx([2 / 3, 1 / 4, 2 / 3])
    assert compute_best_ious(grouped, torch.zeros_like(truth)).tolist() == [0, 0, 0]
