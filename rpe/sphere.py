"""Geometry of the unit sphere S^(D-1), where pixel embeddings live: margin, similarity, bandwidth."""

from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rpe.structures import UserError, check_shape

BANDWIDTH_RANGE = (0.02, 2.0)
"""Range of the bandwidth b.

Below, exp(-2 / b^2) and similar values vanish in fp32 for all but coinciding points. Above, the kernel is
flat.
"""

UNIT_TOLERANCE = 1e-3
"""Largest deviation of a point's length from 1.

Half precision may deviate by two of its own last digits, as it rounds length and quotient.
"""


def normalise(vectors: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    """Return x / |x|.

    A vector of length zero has no direction: it becomes the first axis, with zero gradient, so that all
    results lie on the sphere. NaN stays NaN.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    zero = length < torch.finfo(vectors.dtype).tiny
    return torch.where(
        zero, first_axis_like(vectors), vectors / torch.where(zero, torch.ones_like(length), length)
    )


def first_axis_like(vectors: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    """Return e_1 for each vector; it stands in for absent points."""
    first_axis = torch.zeros_like(vectors)
    first_axis[..., 0] = 1
    return first_axis


def in_single(values: Tensor) -> Tensor:
    """Return values in fp32, or unchanged in fp64: the precision of all computations."""
    return values if values.dtype == torch.float64 else values.float()


def cosine_distance(
    one: Float[Tensor, "*shape dim"], other: Float[Tensor, "*shape dim"]
) -> Float[Tensor, "*shape"]:
    """Return 1 - x . y as |x - y|^2 / 2, which keeps its digits when the points are close."""
    return (one - other).square().sum(-1) / 2


def check_tensor(name: str, values: object) -> None:
    """Check that values are a tensor of real numbers.

    Raises:
        UserError: names the tensor and the type found.
    """
    if not isinstance(values, Tensor) or values.is_complex():
        found = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise UserError(
            f"{name} must be a tensor of real numbers, got {found}. Pass torch.as_tensor(numbers)."
        )


def check_points(points: Tensor, **axes: int | None) -> None:
    """Check that points are a tensor of real numbers with the named axes and at least one coordinate.

    Raises:
        UserError: names the type or the shape.
    """
    check_tensor("points", points)
    check_shape("points", points, **axes)
    if points.shape[-1] == 0:
        raise UserError(f"points must have one coordinate or more, got the shape {list(points.shape)}.")


def find_unscaled(
    points: Float[Tensor, "*shape dim"], used: Bool[Tensor, "*shape"] | None = None
) -> Bool[Tensor, "*shape"]:
    """Return True for points that are NaN, infinite, zero or otherwise not of unit length.

    False in `used` marks points that may have any value.
    """
    error = (torch.linalg.vector_norm(in_single(points.detach()), dim=-1) - 1).abs()
    tolerance = (
        max(UNIT_TOLERANCE, 2 * torch.finfo(points.dtype).eps)
        if points.is_floating_point()
        else UNIT_TOLERANCE
    )
    wrong = ~(error <= tolerance)
    return wrong if used is None else wrong & used


def check_unit_length(
    points: Float[Tensor, "*shape dim"], used: Bool[Tensor, "*shape"] | None = None
) -> None:
    """Check that points are of unit length; for the arguments see `find_unscaled`.

    Raises:
        UserError: a point is not.
    """
    wrong = find_unscaled(points, used)
    if bool(wrong.any()):
        raise UserError(
            f"points must be of unit length, got {int(wrong.sum())} of {wrong.numel()} that are not "
            "(NaN, zero or unscaled). Pass them through rpe.sphere.normalise."
        )


def any_true(*flags: Bool[Tensor, "..."]) -> bool:
    """Return whether one of the flags is True. All are read together, as each reading stops a GPU."""
    return bool(torch.stack([some.any() for some in flags]).any())


def check_margin(margin: float) -> float:
    """Return `margin` after a check.

    Raises:
        UserError: outside [0, 1).
    """
    if not 0 <= margin < 1:
        raise UserError(f"margin must be in [0, 1), got {margin}. 0.5 makes different objects orthogonal.")
    return margin


def check_bandwidth(bandwidth: Any) -> float:
    """Return `bandwidth` after a check.

    Raises:
        UserError: not a number, or outside `BANDWIDTH_RANGE`.
    """
    low, high = BANDWIDTH_RANGE
    if not isinstance(bandwidth, Real) or isinstance(bandwidth, bool):
        raise UserError(f"bandwidth must be a number, got {bandwidth}. The paper's are 0.1 to 0.3.")
    if not low <= float(bandwidth) <= high:
        raise UserError(f"bandwidth must be in [{low}, {high}], got {bandwidth}. The paper's are 0.1 to 0.3.")
    return float(bandwidth)


def bandwidth_of_margin(margin: float) -> float:
    """Return b = (1 - alpha) / 3 (paper, section 4.1: delta = 3 / (1 - alpha))."""
    return check_bandwidth((1 - check_margin(margin)) / 3)


def concentration_of_bandwidth(bandwidth: float) -> float:
    """Return kappa = 1 / b^2 of the von Mises-Fisher kernel."""
    return 1 / check_bandwidth(bandwidth) ** 2


def cosine_of_margin(margin: float) -> float:
    """Return the cosine at which the calibrated similarity (1 + x . y) / 2 equals the margin."""
    return 2 * check_margin(margin) - 1
