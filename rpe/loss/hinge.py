"""Compute the hinge of all different-group pairs and its gradient in blocks, as one custom operator."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.pairs import BLOCK, GPU_BLOCK, add_products, multiply_block, upper_blocks
from rpe.structures import VOID


@torch.library.custom_op(
    "rpe::blockwise_hinge",
    mutates_args=(),
    schema="(Tensor points, Tensor labels, Tensor weights, float threshold, Tensor? positions, "
    "float max_distance, bool squared) -> (Tensor, Tensor)",
)
def blockwise_hinge(
    points: Float[Tensor, "batch pixel dim"],
    labels: Int64[Tensor, "batch pixel"],
    weights: Float[Tensor, "batch pixel"],
    threshold: float,
    positions: Float[Tensor, "batch pixel 2"] | None,
    max_distance: float,
    squared: bool,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch pixel dim"]]:
    """Compute the hinge of each image and its gradient with respect to the points.

    The hinge is the sum over different-group pairs of w_i w_j max(0, s_ij - alpha). A custom operator, so
    that `torch.compile` takes it as it is. Pixels are sorted by label, pairs are ordered. A pair counts where
    x_i . x_j > t = 2 alpha - 1. With A the 0/1 matrix of these pairs, G = A (w x) and n = A w, the sum is 1/2
    sum_i w_i (x_i . G_i - t n_i), and its gradient is w_i G_i. One pass over the blocks gives both, and only
    the gradient is kept. If squared, the terms are max(0, s_ij - alpha)^2 / 2 and A holds x_i . x_j - t
    instead of 1. The sum then has the factor 1/8, and its gradient 1/2. Void pixels come first and have
    weight 0.

    Args:
        points: of unit length, sorted by label.
        labels: ascending; void pixels come first.
        weights: of the pixels; 0 for void.
        threshold: t = 2 alpha - 1.
        positions: of the pixels, for `max_distance`; None counts all pairs.
        max_distance: pairs farther apart do not count.
        squared: squared hinges.
    """
    hinge, gradient = points.new_zeros(len(points)), torch.zeros_like(points)
    for image, (x, group, weight) in enumerate(zip(points, labels, weights, strict=True)):
        place = None if positions is None else positions[image]
        # skipping void pixels and images of one group saves work, but counting them would stop a GPU
        start = 0 if points.is_cuda else int((group == VOID).sum())
        if start == len(group) or (not points.is_cuda and bool(group[start] == group[-1])):
            continue
        hinge[image], gradient[image, start:] = image_hinge(
            x[start:],
            group[start:],
            weight[start:],
            threshold,
            None if place is None else place[start:],
            max_distance,
            squared,
        )
    return hinge, gradient


@blockwise_hinge.register_fake
def shape_of_hinge(
    points: Tensor,
    labels: Tensor,
    weights: Tensor,
    threshold: float,
    positions: Tensor | None,
    max_distance: float,
    squared: bool,
) -> tuple[Tensor, Tensor]:
    """Return tensors of the results' shapes, for `torch.compile`."""
    return points.new_empty(points.shape[0]), torch.empty_like(points)


def image_hinge(
    points: Float[Tensor, "pixel dim"],
    labels: Int64[Tensor, " pixel"],
    weights: Float[Tensor, " pixel"],
    threshold: float,
    positions: Float[Tensor, "pixel 2"] | None,
    max_distance: float,
    squared: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, "pixel dim"]]:
    """Return the hinge and its gradient of one image."""
    length, dim = points.shape
    values = weights[:, None] * torch.cat([points, torch.ones_like(weights[:, None])], 1)
    sums = points.new_zeros(dim + 1, length)
    block = min(length, GPU_BLOCK if points.is_cuda else BLOCK)
    buffer = points.new_empty(block**2)
    for rows, columns in upper_blocks(length, block, positions, max_distance):
        active = multiply_block(buffer, points[rows], points[columns])
        active = active.sub_(threshold).clamp_(min=0) if squared else active.gt_(threshold)
        # labels are sorted, so most blocks hold no pair of one group; reading that would stop a GPU
        if rows == columns or points.is_cuda or bool(labels[rows][-1] >= labels[columns][0]):
            active.mul_(labels[rows, None] != labels[columns])
        if positions is not None:
            # without a division by the range, distances between pixel centres are exact, so that a pair just
            # at the range counts
            offsets = positions[rows, None] - positions[columns]
            active.mul_(offsets.square().sum(-1) <= max_distance**2)
        add_products(sums, active, values, rows, columns)
    weighted_points, weight = sums[:dim].t(), sums[dim]
    gradient = weights[:, None] * weighted_points / (2 if squared else 1)
    excess = (points * weighted_points).sum(1) - threshold * weight
    return (weights.double() * excess.double()).sum().to(points.dtype) / (8 if squared else 2), gradient


def keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep the gradient that the forward pass computed."""
    ctx.save_for_backward(output[1])


def differentiate_hinge(
    ctx: Any, gradient: Tensor, of_gradient: Tensor | None
) -> tuple[Tensor, None, None, None, None, None, None]:
    """Return the gradient of `blockwise_hinge` with respect to the points."""
    (to_points,) = ctx.saved_tensors
    return gradient[:, None, None] * to_points, None, None, None, None, None, None


blockwise_hinge.register_autograd(differentiate_hinge, setup_context=keep_gradient)
