"""Geometry of the unit sphere S^(D-1): where pixel embeddings live, and how margin and bandwidth are bound together."""

import math
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rpe.structures import UserError, check_shape

BANDWIDTH_RANGE = (0.02, 2.0)
"""Below, exp(-2/b^2) and its neighbours vanish in fp32 for all but coinciding points; above, the kernel is flat."""

UNIT_TOLERANCE = 1e-3
"""How far from 1 a point's length may be; half precision may miss it by two of its own last digits, as it rounds length and quotient."""


def normalise(vectors: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    """x / |x|. A vector of length zero has no direction: it becomes the first axis, with zero gradient, so that all that
    comes out lies on the sphere. NaN stays NaN."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    zero = length < torch.finfo(vectors.dtype).tiny
    return torch.where(
        zero, first_axis_like(vectors), vectors / torch.where(zero, torch.ones_like(length), length)
    )


def first_axis_like(vectors: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    """e_1 as often as there are vectors: the point that stands where there is none."""
    first_axis = torch.zeros_like(vectors)
    first_axis[..., 0] = 1
    return first_axis


def in_single(values: Tensor) -> Tensor:
    """In fp32, or as they are in fp64: what is computed with, whatever precision came in."""
    return values if values.dtype == torch.float64 else values.float()


def calibrated_cosine(
    one: Float[Tensor, "*shape dim"], other: Float[Tensor, "*shape dim"]
) -> Float[Tensor, "*shape"]:
    """s = (1 + x . y) / 2 in [0, 1] (paper, section 3.1)."""
    return (1 + (one * other).sum(-1)) / 2


def cosine_distance(
    one: Float[Tensor, "*shape dim"], other: Float[Tensor, "*shape dim"]
) -> Float[Tensor, "*shape"]:
    """1 - x . y as |x - y|^2 / 2, which keeps its digits when the points are close."""
    return (one - other).square().sum(-1) / 2


def check_tensor(name: str, values: object) -> None:
    """Refuse what is not a tensor of real numbers.

    Raises:
        UserError: naming it and what was found.
    """
    if not isinstance(values, Tensor) or values.is_complex():
        found = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise UserError(f"{name}: {found} found, give a tensor of real numbers")


def check_points(points: Tensor, **axes: int | None) -> None:
    """Refuse what is not a tensor of real numbers with the named axes, the last of them one or more coordinates.

    Raises:
        UserError: naming the type or the shape.
    """
    check_tensor("points", points)
    check_shape("points", points, **axes)
    if points.shape[-1] == 0:
        raise UserError(f"points has the shape {list(points.shape)}: a point needs one coordinate or more")


def check_unit_length(
    points: Float[Tensor, "*shape dim"], used: Bool[Tensor, "*shape"] | None = None
) -> None:
    """Refuse points that are not on the sphere.

    Raises:
        UserError: a point is NaN, infinite, of length zero or otherwise not of unit length.
    """
    error = (torch.linalg.vector_norm(in_single(points.detach()), dim=-1) - 1).abs()
    tolerance = (
        max(UNIT_TOLERANCE, 2 * torch.finfo(points.dtype).eps)
        if points.is_floating_point()
        else UNIT_TOLERANCE
    )
    if used is not None:
        error = torch.where(used, error, torch.zeros_like(error))
    wrong = ~(error <= tolerance)
    if bool(wrong.any()):
        raise UserError(
            f"{int(wrong.sum())} of {wrong.numel()} points are not of unit length (NaN, zero or unscaled): pass them through rpe.sphere.normalise"
        )


def check_margin(margin: float) -> float:
    """`margin` itself, if it is one.

    Raises:
        UserError: outside [0, 1).
    """
    if not 0 <= margin < 1:
        raise UserError(f"margin {margin} is outside [0, 1): 0.5 asks that different objects be orthogonal")
    return margin


def check_bandwidth(bandwidth: Any) -> float:
    """`bandwidth` itself, if it can be used.

    Raises:
        UserError: no number, or outside `BANDWIDTH_RANGE`.
    """
    low, high = BANDWIDTH_RANGE
    if not isinstance(bandwidth, Real) or isinstance(bandwidth, bool):
        raise UserError(f"bandwidth {bandwidth} is no number: the paper's are 0.1 to 0.3")
    if not low <= float(bandwidth) <= high:
        raise UserError(f"bandwidth {bandwidth} is outside [{low}, {high}]: the paper's are 0.1 to 0.3")
    return float(bandwidth)


def bandwidth_of_margin(margin: float) -> float:
    """b = (1 - alpha) / 3 (paper, section 4.1: delta = 3 / (1 - alpha))."""
    return check_bandwidth((1 - check_margin(margin)) / 3)


def concentration_of_bandwidth(bandwidth: float) -> float:
    """kappa = 1 / b^2 of the von Mises-Fisher kernel."""
    return 1 / check_bandwidth(bandwidth) ** 2


def cosine_of_margin(margin: float) -> float:
    """The cosine at which the calibrated similarity equals the margin: 2 alpha - 1."""
    return 2 * check_margin(margin) - 1


def angle_of_margin(margin: float) -> float:
    """The same as an angle in degrees."""
    return math.degrees(math.acos(cosine_of_margin(margin)))
