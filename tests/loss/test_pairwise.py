"""The blockwise loss against dense algebra in both directions, and against its own definition in hard cases."""

import pytest
import torch
from dense_loss import dense_loss

from rpe.loss import pairwise_margin_loss, share_over_margin
from rpe.sphere import normalise
from rpe.structures import UserError


def scene(
    pixels: int = 90, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    vectors = torch.randn(2, pixels, 4, dtype=dtype, requires_grad=True)
    labels = torch.randint(-1, 5, (2, pixels))
    return vectors, labels, 10 * torch.rand(2, pixels, 2, dtype=dtype)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negative_weight": 5.0},
        {"negative_weight": 0.0},
        {"weighting": "uniform"},
        {"negative_range": 4.0},
        {"squared": True},
        {"squared": True, "negative_weight": 5.0, "weighting": "uniform", "negative_range": 4.0},
    ],
    ids=["paper", "heavy", "no hinge", "uniform", "range", "squared", "squared and all"],
)
@pytest.mark.parametrize("block", [512, 16])
def test_value_and_tangential_gradient_equal_dense(
    options: dict, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpe.loss.hinge.BLOCK", block)
    vectors, labels, positions = scene()
    if "negative_range" in options:
        options = {**options, "positions": positions}
    ours = pairwise_margin_loss(normalise(vectors), labels, 0.4, **options)
    reference = dense_loss(normalise(vectors), labels, 0.4, **options)
    assert abs(float(ours - reference)) <= 1e-12
    (found,), (wanted,) = torch.autograd.grad(ours, [vectors]), torch.autograd.grad(reference, [vectors])
    assert torch.allclose(found, wanted, atol=1e-12)


def test_large_image_in_single_precision_equals_dense(clustered) -> None:
    points = clustered(2000, 16)[None]
    labels = torch.randint(-1, 12, (1, 2000))
    assert float(pairwise_margin_loss(points, labels, 0.5)) == pytest.approx(
        float(dense_loss(points.double(), labels, 0.5)), rel=1e-5
    )


def test_tight_groups_keep_four_digits_in_single_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(4, dtype=torch.float64)[torch.arange(4000) % 4]
    points = normalise(centres + 1e-4 * torch.randn(4000, 4, dtype=torch.float64, generator=generator))[None]
    labels = (torch.arange(4000) % 4)[None]
    single = points.float()
    assert float(pairwise_margin_loss(single, labels, 0.6)) == pytest.approx(
        float(pairwise_margin_loss(single.double(), labels, 0.6)), rel=1e-4
    )
    assert float(pairwise_margin_loss(single, labels, 0.6)) == pytest.approx(
        float(dense_loss(points, labels, 0.6)), rel=1e-4
    )
    squared = float(pairwise_margin_loss(single, labels, 0.6, squared=True))
    assert squared == pytest.approx(float(dense_loss(points, labels, 0.6, squared=True)), rel=1e-4)


def test_hand_computed_case() -> None:
    # two groups of 1 and 2 pixels; s within the pair is 1/2, s across 1/2 and 1: 2 (1/4)(1/2) + 2 (1/2)(0.2 + 0.7) over 2^2 groups
    points = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    labels = torch.tensor([[0, 3, 3]])
    assert float(pairwise_margin_loss(points, labels, 0.3)) == pytest.approx((0.25 + 0.9) / 4)


def test_void_has_no_part() -> None:
    vectors, labels, _ = scene()
    points = normalise(vectors)
    loss = pairwise_margin_loss(points, labels, 0.4)
    (gradient,) = torch.autograd.grad(loss, [points], retain_graph=True)
    assert (gradient[labels == -1] == 0).all() and (gradient[labels != -1] != 0).any()
    moved = torch.where((labels == -1)[..., None], normalise(torch.randn_like(points)), points)
    assert float(pairwise_margin_loss(moved, labels, 0.4)) == pytest.approx(float(loss), abs=1e-14)


def test_images_without_labels_are_left_out_of_the_mean() -> None:
    vectors, labels, _ = scene()
    labels[1] = -1
    one = pairwise_margin_loss(normalise(vectors), labels, 0.4)
    assert float(one) == pytest.approx(float(pairwise_margin_loss(normalise(vectors[:1]), labels[:1], 0.4)))
    labels[0] = -1
    none = pairwise_margin_loss(normalise(vectors), labels, 0.4)
    none.backward()
    assert float(none) == 0 and (vectors.grad == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 1.0}, "margin must be in .*, got 1.0"),
        ({"weighting": "pixel"}, "weighting must be group or uniform, got 'pixel'"),
        ({"negative_weight": -1.0}, "negative_weight must be finite and >= 0, got -1.0"),
        ({"negative_range": 3.0}, "positions"),
        ({"margin": float("nan")}, "margin must be in .*, got nan"),
        ({"negative_weight": float("nan")}, "negative_weight must be .*, got nan"),
        ({"negative_weight": float("inf")}, "negative_weight must be .*, got inf"),
        (
            {"points": torch.tensor([[[1.0, 0.0], [float("nan"), 0.0]]])},
            "points must be of unit length, got 1 of 2",
        ),
        ({"points": torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])}, "points must be of unit length, got 1 of 2"),
        ({"points": 5 * torch.eye(2)[None]}, "points must be of unit length, got 2 of 2"),
        ({"points": torch.eye(2)[None] + 0j}, "points must be a tensor of real numbers, got torch.complex64"),
        ({"points": [[[1.0, 0.0], [0.0, 1.0]]]}, "points must be a tensor of real numbers, got list"),
        (
            {"points": torch.zeros(1, 2, 0)},
            r"points must have one coordinate or more, got the shape \[1, 2, 0\]",
        ),
        ({"labels": [[0, 1]]}, "labels must be a tensor of real numbers, got list"),
        (
            {"negative_range": 3.0, "positions": [[[0, 1], [0, 2]]]},
            "positions must be a tensor of real numbers, got list",
        ),
        (
            {"negative_range": 3.0, "positions": torch.tensor([[[0.0, 1.0], [float("nan"), 1.0]]])},
            "positions must be finite, got 1",
        ),
        ({"negative_range": 0.0}, "negative_range must be > 0 pixels, .* got 0.0"),
        (
            {"negative_range": 3.0, "positions": torch.zeros(1, 3, 2)},
            r"positions must have the shape .*, got \[1, 3, 2\]",
        ),
        ({"labels": torch.tensor([[-2, 1]])}, "labels must be >= -1, got -2"),
        (
            {"labels": torch.tensor([[0, 1, 1]])},
            r"labels must have the shape \[batch 1, pixel 2\], got \[1, 3\]",
        ),
        ({"labels": torch.tensor([[0.0, 1.0]])}, "labels must be int64, got torch.float32"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str, plain: None) -> None:
    arguments = {"points": torch.eye(2)[None], "labels": torch.tensor([[0, 1]]), "margin": 0.5} | options
    with pytest.raises(UserError, match=message):
        pairwise_margin_loss(
            arguments.pop("points"), arguments.pop("labels"), arguments.pop("margin"), **arguments
        )


@pytest.mark.parametrize("labelled", [0, 3])
def test_void_may_be_anything(labelled: int) -> None:
    points, positions = normalise(torch.randn(1, 5, 3)), torch.rand(1, 5, 2)
    points[0, 3], points[0, 4], positions[0, 3] = float("nan"), float("inf"), float("nan")
    labels = torch.where(torch.arange(5) < labelled, torch.arange(5), -1)[None]
    points.requires_grad_()
    loss = pairwise_margin_loss(points, labels, 0.0, positions=positions, negative_range=9.0)
    (gradient,) = torch.autograd.grad(loss, [points])
    assert bool(loss.isfinite()) and bool(gradient.isfinite().all()) and (float(loss) > 0) == (labelled > 0)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_a_second_derivative_is_refused(labels: list[int]) -> None:
    points = normalise(torch.randn(1, 3, 3)).requires_grad_()
    loss = pairwise_margin_loss(points, torch.tensor([labels]), 0.1)
    with pytest.raises(UserError, match="the pairwise loss, got True. It has no second derivative"):
        torch.autograd.grad(loss, points, create_graph=True)


def test_whole_positions_are_taken_as_they_are(plain: None) -> None:
    points, labels = normalise(torch.randn(1, 9, 3)), torch.arange(9)[None]
    positions = torch.stack([torch.arange(9) % 3, torch.arange(9) // 3], 1)[None]
    found = pairwise_margin_loss(points, labels, 0.1, positions=positions.to(torch.uint8), negative_range=1.0)
    assert torch.equal(
        found, pairwise_margin_loss(points, labels, 0.1, positions=positions.float(), negative_range=1.0)
    )


def test_share_over_margin_is_weighted_by_group() -> None:
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, -1])
    assert share_over_margin(points, labels, 0.6) == pytest.approx(0.5)


@pytest.mark.parametrize("squared", [False, True])
def test_one_pixel_no_pixel_equal_and_antipodal_points(squared: bool) -> None:
    def value(points: torch.Tensor, *labels: int) -> float:
        points = points[None].clone().requires_grad_()
        loss = pairwise_margin_loss(points, torch.tensor([labels], dtype=torch.int64), 0.5, squared=squared)
        assert torch.autograd.grad(loss, points)[0].isfinite().all()
        return float(loss)

    east = torch.tensor([[1.0, 0.0]])
    poles = torch.cat([east, -east])
    assert (
        value(east, 0)
        == value(east[:0])
        == value(east.expand(5, 2), 3, 3, 3, 3, 3)
        == value(poles, 0, 1)
        == 0
    )
    # two poles in one group: s is 1 with themselves, 0 with each other; equal points of two groups: s - alpha is a half
    assert value(poles, 2, 2) == pytest.approx(0.25 if squared else 0.5)
    assert value(east.expand(2, 2), 1, 2) == pytest.approx(0.0625 if squared else 0.25)
