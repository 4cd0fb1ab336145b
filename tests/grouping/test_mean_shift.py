"""The loops against float64 algebra, the closed form of one tight cluster, and everything a caller can get wrong."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from rpe.grouping import MeanShift, mean_shift
from rpe.sphere import normalise
from rpe.structures import pixel_centres


def dense_loops(
    points: torch.Tensor, kappa: torch.Tensor | float, iterations: int, step: float = 1.0
) -> torch.Tensor:
    for _ in range(iterations):
        mean = torch.softmax(kappa * points @ points.transpose(-1, -2), -1) @ points
        points = normalize((1 - step) * points + step * mean, dim=-1)
    return points


@pytest.mark.parametrize("kappa", [25.0, 36.0, 100.0])
@pytest.mark.parametrize("dim", [2, 3, 16, 64, 128])
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_one_and_three_steps_equal_dense_float64(dim: int, kappa: float, kind: str, clustered) -> None:
    points = clustered(700, dim)[None] if kind == "clustered" else normalize(torch.randn(1, 700, dim), dim=-1)
    single = points.clone().requires_grad_()
    concentration = torch.tensor(kappa, requires_grad=True)
    iterates = mean_shift(single, concentration, 3)
    assert len(iterates) == 4 and torch.equal(iterates[0], points)
    exact, exact_kappa = (
        points.double().requires_grad_(),
        torch.tensor(kappa, dtype=torch.float64, requires_grad=True),
    )
    reference = dense_loops(exact, exact_kappa, 3)
    assert (iterates[1] - dense_loops(points.double(), kappa, 1)).abs().max() <= 1e-5
    assert (iterates[3] - reference).abs().max() <= 1e-5
    pull = torch.randn_like(points)
    (iterates[3] * pull).sum().backward()
    (reference * pull.double()).sum().backward()
    assert (single.grad - exact.grad).norm() <= 1e-3 * exact.grad.norm()
    # random points in many dimensions hardly see each other: their gradient to kappa is zero to fp32, and has no relative error
    assert abs(concentration.grad - exact_kappa.grad) <= 1e-3 * abs(exact_kappa.grad) + 1e-7


def test_gradcheck_with_everything_switched_on() -> None:
    points = normalise(torch.randn(2, 9, 3, dtype=torch.float64)).requires_grad_()
    kappa = torch.tensor([8.0, 20.0], dtype=torch.float64, requires_grad=True)
    mass, positions = (
        torch.rand(2, 9, dtype=torch.float64) + 0.5,
        4 * torch.rand(2, 9, 2, dtype=torch.float64),
    )
    mask = torch.arange(9) < torch.tensor([[9], [6]])

    def loops(points: torch.Tensor, kappa: torch.Tensor) -> torch.Tensor:
        return mean_shift(
            points, kappa, 2, step=0.7, mass=mass, mask=mask, positions=positions, spatial_bandwidth=2.0
        )[-1]

    assert torch.autograd.gradcheck(loops, (points, kappa))


def test_step_size_mixes_before_normalising() -> None:
    points = normalise(torch.randn(1, 20, 4, dtype=torch.float64))
    assert torch.allclose(mean_shift(points, 10.0, 2, step=0.3)[-1], dense_loops(points, 10.0, 2, 0.3))


def test_masked_points_stay_and_count_for_nobody() -> None:
    points = normalise(torch.randn(2, 10, 3, dtype=torch.float64))
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 4:] = False
    found = mean_shift(points, 12.0, 2, mask=mask)[-1]
    assert torch.equal(found[1, 4:], points[1, 4:])
    assert torch.allclose(found[1, :4], mean_shift(points[1:, :4], 12.0, 2)[-1][0])
    mask[1] = False
    assert torch.equal(mean_shift(points, 12.0, 2, mask=mask)[-1][1], points[1])


def test_mass_is_how_often_a_point_is_there() -> None:
    points = normalise(torch.randn(1, 6, 3, dtype=torch.float64))
    twice = torch.cat([points, points[:, :1]], 1)
    mass = torch.tensor([[2.0, 1, 1, 1, 1, 1]], dtype=torch.float64)
    assert torch.allclose(mean_shift(points, 15.0, 3, mass=mass)[-1], mean_shift(twice, 15.0, 3)[-1][:, :6])


def test_positions_keep_far_twins_apart() -> None:
    twins = normalise(
        torch.randn(1, 4, 3, dtype=torch.float64).repeat(1, 2, 1)
        + 0.2 * torch.randn(1, 8, 3, dtype=torch.float64)
    )
    positions = torch.zeros(1, 8, 2, dtype=torch.float64)
    positions[0, 4:] = 1000.0
    found = mean_shift(twins, 10.0, 2, positions=positions, spatial_bandwidth=1.0)[-1]
    assert torch.allclose(found[:, :4], mean_shift(twins[:, :4], 10.0, 2)[-1], atol=1e-9)


@pytest.mark.parametrize("spatial_bandwidth", [0.01, 0.5, 2.0, 8.0, 30.0])
@pytest.mark.parametrize("order", ["rows", "shuffled"])
def test_a_large_image_keeps_its_digits_whatever_the_spatial_bandwidth(
    spatial_bandwidth: float, order: str
) -> None:
    # two strips of a 2048 x 2048 image, far pairwise_distances
    positions = pixel_centres((4, 300), torch.device("cpu"))
    positions = torch.cat([positions, positions + torch.tensor([2040.0, 1748.0])])[None]
    positions = positions if order == "rows" else positions[:, torch.randperm(2400)]
    points = normalise(torch.randn(1, 2400, 3)).requires_grad_()
    pull = torch.randn_like(points)
    found = mean_shift(points, 25.0, 1, positions=positions, spatial_bandwidth=spatial_bandwidth)[-1]
    exact = points.detach().double().requires_grad_()
    distances = (positions.double()[:, :, None] - positions.double()[:, None]).square().sum(-1)
    reference = normalise(
        torch.softmax(25.0 * exact @ exact.transpose(1, 2) - distances / (2 * spatial_bandwidth**2), -1)
        @ exact
    )
    assert (found - reference).abs().max() <= 1e-5
    (gradient,), (wanted,) = (
        torch.autograd.grad((found * pull).sum(), [points]),
        torch.autograd.grad((reference * pull).sum(), [exact]),
    )
    assert (gradient - wanted).norm() <= 1e-4 * wanted.norm()


def test_places_of_masked_pixels_have_no_part() -> None:
    points, mask = normalise(torch.randn(1, 600, 3)), torch.arange(600)[None] >= 100
    positions = 100 * torch.rand(1, 600, 2)
    alone = mean_shift(points[:, 100:], 25.0, 2, positions=positions[:, 100:], spatial_bandwidth=8.0)[-1]
    for sentinel in (1e5, float("nan"), float("inf")):
        positions[:, :100] = sentinel
        found = mean_shift(points, 25.0, 2, mask=mask, positions=positions, spatial_bandwidth=8.0)[-1]
        assert torch.allclose(found[:, 100:], alone, atol=1e-6) and torch.equal(
            found[:, :100], points[:, :100]
        )


def test_whole_positions_and_half_precision_are_taken(plain: None) -> None:
    points, positions = normalise(torch.randn(1, 50, 8)), torch.randint(0, 20, (1, 50, 2))
    options = {"spatial_bandwidth": 3.0}
    whole = mean_shift(points, 36.0, 1, positions=positions, **options)[-1]
    assert torch.equal(whole, mean_shift(points, 36.0, 1, positions=positions.float(), **options)[-1])
    for half in (torch.bfloat16, torch.float16):
        moved = mean_shift(normalise(points.to(half)), 36.0, 1)
        assert all(
            one.dtype == torch.float32 and torch.allclose(one.norm(dim=-1), torch.ones(1, 50))
            for one in moved
        )


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_what_is_masked_may_be_anything_and_spoils_no_gradient(step: float) -> None:
    points, mask = normalise(torch.randn(1, 8, 3)), torch.arange(8)[None] < 6
    points[0, 6], points[0, 7] = float("nan"), float("inf")
    points.requires_grad_()
    iterates = mean_shift(points, 20.0, 2, step=step, mask=mask)
    assert torch.equal(iterates[-1][0, 6:].nan_to_num(), points[0, 6:].nan_to_num())
    (gradient,) = torch.autograd.grad(iterates[-1][:, :6].sum(), [points])
    assert bool(gradient.isfinite().all())


def test_one_tight_cluster_contracts_as_the_closed_form_says() -> None:
    kappa, spread, dim = 36.0, 0.02, 3
    generator = torch.Generator().manual_seed(0)
    offsets = spread * torch.randn(20000, dim - 1, generator=generator, dtype=torch.float64)
    points = normalise(torch.cat([torch.ones(20000, 1, dtype=torch.float64), offsets], 1))[None]
    after = mean_shift(points, kappa, 1)[-1][0, :, 1:].std(0)
    measured = points[0, :, 1:].std(0)
    predicted = kappa * measured**3 / (1 + kappa * measured**2)
    assert torch.allclose(after, predicted, rtol=0.02)


def test_rotation_and_permutation_equivariance() -> None:
    points = normalise(torch.randn(1, 50, 4, dtype=torch.float64))
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    order = torch.randperm(50)
    moved = mean_shift(points, 20.0, 3)[-1]
    assert torch.allclose(mean_shift(points @ rotation, 20.0, 3)[-1], moved @ rotation)
    assert torch.allclose(mean_shift(points[:, order], 20.0, 3)[-1], moved[:, order])


def test_one_two_no_equal_and_antipodal_points() -> None:
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(mean_shift(east[None, None], 36.0, 2)[-1], east[None, None])
    assert mean_shift(torch.zeros(1, 0, 3), 36.0, 2)[-1].shape == (1, 0, 3)
    assert len(mean_shift(torch.zeros(0, 5, 3), 36.0, 2)) == 3
    assert torch.equal(mean_shift(east.expand(1, 7, 2), 36.0, 3)[-1], east.expand(1, 7, 2))
    poles = torch.stack([east, -east])[None]
    assert torch.allclose(mean_shift(poles, 36.0, 5)[-1], poles)
    weight = math.exp(-4.0)
    expected = normalise((east + weight * north) / (1 + weight))
    assert torch.allclose(mean_shift(torch.stack([east, north])[None], 4.0, 1)[-1][0, 0], expected)


def test_no_nan_comes_out_where_an_image_has_no_pixel_or_a_mean_no_direction() -> None:
    points = normalise(torch.randn(2, 6, 3)).requires_grad_()
    mask = torch.tensor([[True] * 6, [False] * 6])
    moved = mean_shift(points, 36.0, 2, mask=mask)[-1]
    (gradient,) = torch.autograd.grad(moved.sum(), [points])
    assert torch.equal(moved[1], points[1]) and bool(gradient.isfinite().all())
    # what is masked may be anything finite
    zeros = torch.where(mask[..., None], points.detach(), 0.0)
    assert torch.equal(mean_shift(zeros, 36.0, 2, mask=mask)[-1][1], zeros[1])
    # a flat kernel on a ring: every mean is next to nothing, and normalised all the same
    angles = torch.arange(8) * math.pi / 4
    ring = torch.stack([angles.cos(), angles.sin()], 1)[None].requires_grad_()
    moved = mean_shift(ring, 0.25, 3)[-1]
    assert torch.allclose(moved.norm(dim=-1), torch.ones(1, 8))
    assert bool(torch.autograd.grad(moved.square().sum(), [ring])[0].isfinite().all())


def test_half_precision_is_computed_in_single() -> None:
    points = normalise(torch.randn(1, 30, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mean_shift(points, 36.0, 2)[-1]
    assert found.dtype == torch.float32 and torch.equal(found, mean_shift(points, 36.0, 2)[-1])


def test_module_takes_the_papers_bandwidth_and_learns_one() -> None:
    paper = MeanShift(iterations=2, bandwidth=None, margin=0.5, learn_bandwidth=False)
    assert paper.concentration == pytest.approx(36) and not list(paper.parameters())
    learned = MeanShift(iterations=2, bandwidth=0.2, margin=0.5, learn_bandwidth=True)
    assert float(learned.concentration.detach()) == pytest.approx(25)
    learned(normalise(torch.randn(1, 20, 3)))[-1][0, 0, 0].backward()
    assert float(learned.log_bandwidth.grad) != 0
    with torch.no_grad():
        learned.log_bandwidth.fill_(-50.0)
    assert torch.isfinite(learned(normalise(torch.randn(1, 20, 3)))[-1]).all()


@pytest.mark.parametrize(("log_bandwidth", "edge", "back"), [(-9.0, 0.02, 1.0), (9.0, 2.0, -1.0)])
def test_a_bandwidth_that_overshot_comes_back(log_bandwidth: float, edge: float, back: float) -> None:
    learned = MeanShift(iterations=1, bandwidth=0.2, margin=0.5, learn_bandwidth=True)
    with torch.no_grad():
        learned.log_bandwidth.fill_(log_bandwidth)
        assert float(learned.concentration) == pytest.approx(edge**-2)
    # concentration falls with the bandwidth: a loss that falls with it pulls the bandwidth up
    (pulled,) = torch.autograd.grad(back * learned.concentration, [learned.log_bandwidth])
    (pushed,) = torch.autograd.grad(-back * learned.concentration, [learned.log_bandwidth])
    assert back * float(pulled) < 0 and float(pushed) == 0
