import pytest
import torch

from rpe.network.head import BoundaryClassifier, Classifier, Objectness
from rpe.structures import FeatureMap, UserError


def test_one_logit_a_cell_in_single_precision() -> None:
    head = Objectness(channels=6, hidden=4, upscale=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(FeatureMap(torch.randn(2, 6, 5, 3), 2))
    assert logits.stride == 2 and logits.values.shape == (2, 1, 5, 3) and logits.values.dtype == torch.float32


def test_subdivision_gives_a_finer_grid_over_the_same_image() -> None:
    head = Objectness(channels=6, hidden=4, upscale=2)
    feature = FeatureMap(torch.zeros(1, 6, 5, 3), 4)
    feature.values[0, :, 2, 1] = 1
    logits = head(feature)
    assert logits.stride == 2 and logits.values.shape == (1, 1, 10, 6)
    base = head(FeatureMap(torch.zeros(1, 6, 5, 3), 4)).values
    changed = (logits.values != base).nonzero()[:, 2:].tolist()
    assert changed == [[4, 2], [4, 3], [5, 2], [5, 3]], "the four quarters of cell (2, 1)"


def test_subdivision_must_divide_the_stride() -> None:
    with pytest.raises(UserError, match=r"head.upscale must divide backbone.stride 1, got 2"):
        Objectness(channels=6, hidden=4, upscale=2)(FeatureMap(torch.zeros(1, 6, 5, 3), 1))
    with pytest.raises(UserError, match=r"head.upscale must be >= 1, got 0"):
        Objectness(channels=6, hidden=4, upscale=0)


def boundary_classifier(
    stages: int = 1, hidden: int = 4, upscale: int = 2, features: bool = False
) -> BoundaryClassifier:
    return BoundaryClassifier(
        dimension=3, stages=stages, channels=5, hidden=hidden, upscale=upscale, features=features
    )


@pytest.mark.parametrize("features", [False, True])
def test_boundaries_of_each_stage_and_of_all(features: bool) -> None:
    head = boundary_classifier(stages=2, features=features)
    stages = [FeatureMap(torch.randn(2, 3, 6, 8), 2), FeatureMap(torch.randn(2, 3, 3, 4), 4)]
    finest = FeatureMap(torch.randn(2, 5, 6, 8), 2)
    single, fused = head(stages, finest)
    assert [one.stride for one in single] == [2, 4] and [one.values.shape for one in single] == [
        (2, 1, 6, 8),
        (2, 1, 3, 4),
    ]
    assert fused.stride == 1 and fused.values.shape == (2, 1, 12, 16) and fused.values.dtype == torch.float32
    # the coarse stage has its say in the fused map, and none in the fine one's
    moved, again = head([stages[0], FeatureMap(stages[1].values + 1, 4)], finest)
    assert torch.equal(moved[0].values, single[0].values) and not torch.allclose(again.values, fused.values)
    # the features count where they are asked for
    _, other = head(stages, FeatureMap(finest.values + 1, 2))
    assert torch.allclose(other.values, fused.values) != features


def test_slips_of_the_boundary_classifier() -> None:
    with pytest.raises(UserError, match=r"head.hidden and head.upscale must be >= 1, got 0 and 2"):
        boundary_classifier(hidden=0)
    with pytest.raises(UserError, match=r"head.upscale must divide backbone.stride 1, got 2"):
        boundary_classifier()(
            [FeatureMap(torch.zeros(1, 3, 4, 4), 1)], FeatureMap(torch.zeros(1, 5, 4, 4), 1)
        )


def test_a_classifier_says_what_is_an_object_by_its_classes() -> None:
    head = Classifier(channels=6, classes=4, hidden=8, upscale=2)
    feature = FeatureMap(torch.randn(2, 6, 5, 3), 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objectness, logits = head.read(feature)
    assert (
        logits is not None
        and logits.values.shape == (2, 5, 10, 6)
        and logits.stride == objectness.stride == 2
    )
    assert logits.values.dtype == torch.float32 and objectness.values.shape == (2, 1, 10, 6)
    background = logits.values.softmax(1)[:, :1]
    assert torch.allclose(objectness.values.sigmoid(), 1 - background, atol=1e-6)
    plain = Objectness(channels=6, hidden=8, upscale=2)
    objectness, nothing = plain.read(feature)
    assert nothing is None and torch.equal(objectness.values, plain(feature).values)


@pytest.mark.parametrize("classes", [0, 255])
def test_a_number_of_classes_that_no_map_holds(classes: int) -> None:
    with pytest.raises(UserError, match=rf"head.classes must be in \[1, 254\], got {classes}"):
        Classifier(channels=6, classes=classes, hidden=8, upscale=1)
