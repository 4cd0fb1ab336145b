import numpy as np
import torch

from rpe.picture.colour import principal_axes, project, project_on_principal_axes, random_axes
from rpe.sphere import normalise


def test_one_projection_for_all_iterates() -> None:
    first = normalise(torch.randn(30, 5))
    one, other = project_on_principal_axes([first, first])
    assert one.shape == (30, 3) and (one == other).all() and one.min() >= 0 and one.max() <= 1
    assert project_on_principal_axes([normalise(torch.randn(4, 2))])[0].shape == (4, 3)


def test_equal_points_have_equal_colours_whatever_the_iterate() -> None:
    first, second = normalise(torch.randn(30, 6)), normalise(torch.randn(30, 6))
    second[7] = first[3]
    for axes in (principal_axes([first, second]), random_axes(6, 1), random_axes(6, 2)):
        one, other = project([first, second], axes)
        assert np.allclose(one[3], other[7], atol=1e-6) and np.abs(one[3] - other[8]).max() > 1e-3
        both = np.concatenate([one, other])
        assert np.allclose(both.min(0), 0) and np.allclose(both.max(0), 1, atol=1e-6), (
            "the scale is that of all iterates"
        )


def test_random_axes_are_orthonormal_and_a_function_of_the_seed() -> None:
    axes = random_axes(8, 3)
    assert torch.allclose(axes.T @ axes, torch.eye(3), atol=1e-6)
    assert (
        torch.equal(axes, random_axes(8, 3))
        and not torch.equal(axes, random_axes(8, 4))
        and random_axes(2, 0).shape == (2, 2)
    )
