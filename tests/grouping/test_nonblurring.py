import math
from collections.abc import Callable

import pytest
import torch

from rpe.grouping import mean_shift, nonblurring_mean_shift
from rpe.structures import UserError


def dense_loop(points: torch.Tensor, keys: torch.Tensor, kappa: float, step: float) -> torch.Tensor:
    kernel = torch.softmax(kappa * points @ keys.transpose(-1, -2), -1)
    return torch.nn.functional.normalize((1 - step) * points + step * kernel @ keys, dim=-1)


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_loops_are_those_of_a_dense_matrix(clustered: Callable[..., torch.Tensor], step: float) -> None:
    keys = torch.stack([clustered(70, 4, seed=seed) for seed in (0, 1)]).double()
    keys = torch.nn.functional.normalize(keys, dim=-1)
    iterates = nonblurring_mean_shift(keys, 11.0, 3, step=step)
    here = keys
    for found in iterates:
        assert torch.allclose(found, here, atol=1e-12)
        here = dense_loop(here, keys, 11.0, step)
    single = nonblurring_mean_shift(keys.float(), 11.0, 3, step=step)
    assert torch.allclose(single[-1].double(), iterates[-1], atol=1e-5)


def test_ends_are_modes_of_the_first_density_and_those_of_the_blurring_kind_are_not(
    clustered: Callable[..., torch.Tensor],
) -> None:
    keys = torch.nn.functional.normalize(clustered(80, 3, groups=4).double(), dim=-1)[None]
    ends, blurred = nonblurring_mean_shift(keys, 11.0, 400)[-1], mean_shift(keys, 11.0, 30)[-1]
    assert float((dense_loop(ends, keys, 11.0, 1.0) - ends).abs().max()) < 1e-9, (
        "fixed points of its own equation"
    )
    assert float((dense_loop(blurred, keys, 11.0, 1.0) - blurred).abs().max()) > 1e-3
    # at a mode the density's gradient along the sphere is zero
    ends = ends.requires_grad_()
    density = torch.exp(11.0 * (ends @ keys.transpose(-1, -2) - 1)).sum()
    (gradient,) = torch.autograd.grad(density, ends)
    along = gradient - (gradient * ends).sum(-1, keepdim=True) * ends
    assert float(along.abs().max()) < 1e-6 * float(gradient.abs().max())


def test_two_points_meet_where_the_density_has_its_maximum() -> None:
    # at an angle of 2 a between them, one mode in the middle exists where kappa sin^2(a) < cos(a): here 4 sin^2(20 deg) = 0.47 < 0.94
    angle = math.radians(20)
    pair = torch.tensor(
        [[[math.cos(angle), math.sin(angle)], [math.cos(angle), -math.sin(angle)]]], dtype=torch.float64
    )
    assert torch.allclose(
        nonblurring_mean_shift(pair, 4.0, 100)[-1],
        torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 2, 2),
        atol=1e-9,
    )


def test_edges_and_slips() -> None:
    points = torch.eye(3)[None]
    assert len(nonblurring_mean_shift(points, 10.0, 0)) == 1 and nonblurring_mean_shift(points[:0], 10.0, 2)[
        -1
    ].shape == (0, 3, 3)
    with pytest.raises(UserError, match="must be of unit length"):
        nonblurring_mean_shift(2 * points, 10.0, 1)
    with pytest.raises(UserError, match="iterations"):
        nonblurring_mean_shift(points, 10.0, -1)
