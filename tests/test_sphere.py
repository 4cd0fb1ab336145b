import math

import pytest
import torch

from rpe import sphere
from rpe.structures import UserError


def test_normalise_is_on_the_sphere_and_zero_has_an_answer() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]], requires_grad=True)
    points = sphere.normalise(vectors)
    assert torch.allclose(points.detach(), torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0]]))
    points[:, 1].sum().backward()
    assert torch.isfinite(vectors.grad).all() and (vectors.grad[1] == 0).all()


def test_cosine_distance_keeps_its_digits() -> None:
    angle = 1e-4
    near = torch.tensor([math.cos(angle), math.sin(angle)])
    assert float(sphere.cosine_distance(torch.tensor([1.0, 0.0]), near)) == pytest.approx(
        angle**2 / 2, rel=1e-3
    )


def test_margin_and_bandwidth_are_bound_as_in_the_paper() -> None:
    assert sphere.bandwidth_of_margin(0.5) == pytest.approx(1 / 6)
    assert sphere.concentration_of_bandwidth(sphere.bandwidth_of_margin(0.5)) == pytest.approx(36)
    assert sphere.concentration_of_bandwidth(0.1) == pytest.approx(100)
    assert sphere.cosine_of_margin(0.75) == pytest.approx(0.5)


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_margin_out_of_range(margin: float) -> None:
    with pytest.raises(UserError, match=r"margin must be in \[0, 1\), got "):
        sphere.check_margin(margin)


@pytest.mark.parametrize("bandwidth", [0.0, 0.019, 2.1, float("nan")])
def test_bandwidth_out_of_range(bandwidth: float) -> None:
    with pytest.raises(UserError, match=r"bandwidth must be in \[0.02, 2.0\], got "):
        sphere.check_bandwidth(bandwidth)


@pytest.mark.parametrize("wrong", [[0.0, 0.0], [float("nan"), 1.0], [1.0, 1.0]])
def test_points_off_the_sphere_are_refused(wrong: list[float]) -> None:
    points = torch.tensor([[1.0, 0.0], wrong])
    with pytest.raises(UserError, match="points must be of unit length, got 1 of 2"):
        sphere.check_unit_length(points)
    sphere.check_unit_length(points, torch.tensor([True, False]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_half_precision_normalises_is_of_unit_length(dtype: torch.dtype) -> None:
    points = sphere.normalise(torch.randn(2000, 16).to(dtype))
    sphere.check_unit_length(points)
    with pytest.raises(UserError, match="must be of unit length"):
        sphere.check_unit_length(1.05 * points)


def test_in_single_is_single_or_double() -> None:
    kinds = [
        sphere.in_single(torch.ones(1, dtype=kind)).dtype
        for kind in (torch.bfloat16, torch.int64, torch.float64)
    ]
    assert kinds == [torch.float32, torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1.0], "points must be a tensor of real numbers, got list"),
        (torch.ones(2) + 0j, "complex64"),
        (torch.ones(0), r"\[0\]"),
    ],
)
def test_what_is_no_tensor_of_points_is_refused(points: torch.Tensor, message: str, plain: None) -> None:
    with pytest.raises(UserError, match=message):
        sphere.check_points(points, dim=None)
