"""Compute the kernel-weighted mean of all points around each point: a mean-shift step before normalisation.

    O_j = sum_i K_ij x_i / sum_i K_ij,   K_ij = m_i exp(kappa (x_i . x_j - 1) - |p_i - p_j|^2 / (2 h^2))

This is softmax self-attention with q = kappa X and k = v = X, and never needs the N x N matrix. Two facts
that general attention lacks make it faster here. On the sphere no logit exceeds kappa, so no running maximum
is needed. And exp(..) is symmetric, so only blocks on and above the diagonal are computed, each serving its
rows and its columns.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from rpe.grouping.logits import PRODUCT_RANGE, Logits, iterate_logits
from rpe.pairs import BLOCK, GPU_BLOCK, add_products, multiply_block, refuse_second_derivative, upper_blocks
from rpe.sphere import first_axis_like

SPATIAL_CUTOFF = 7.0
"""Distance in spatial bandwidths beyond which no block is computed.

All omitted points together weigh at most 2 pi h^2 exp(-7^2 / 2) = 1.4e-10 h^2 of a point's own weight, with h
in pixels.
"""

UNDERFLOW_SHARE = 1e-20
"""Share of the heaviest key: queries whose weights sum to less are computed again, as fp32 ends at 1e-38."""

LOWEST_LOGIT = -1e30
"""Initial value of the largest logit, finite so that differences to it are numbers."""

ABSENT_LOGIT = -1e9
"""Logit of an absent point: below every logit of a present one, and finite, as -inf times 0 is NaN."""


@torch.library.custom_op(
    "rpe::blockwise_kernel_mean",
    mutates_args=(),
    schema="(Tensor points, Tensor concentration, Tensor mass, Tensor? positions, float spatial_bandwidth)"
    " -> (Tensor, Tensor)",
)
def blockwise_kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    positions: Float[Tensor, "batch pixel 2"] | None,
    spatial_bandwidth: float,
) -> tuple[Float[Tensor, "batch pixel dim"], Float[Tensor, "batch pixel"]]:
    """Compute the means O and the kernel's sums d in O(N D) memory; both are 0 at points of mass 0.

    A custom operator, so that `torch.compile` takes it as it is. Its backward is exact and recomputes the
    blocks. With E_ij the kernel without the mass, K_ij / m_i, u = G / d, c = (G . O) / d (G the gradient with
    respect to O) and the symmetric matrix M_ij = E_ij [m_i (x_i . u_j - c_j) + m_j (x_j . u_i - c_i)], the
    gradients are dx_i = m_i sum_j E_ij u_j + kappa sum_j M_ij x_j and dkappa = 1/2 sum_ij M_ij (x_i . x_j -
    1). The -1 changes nothing, as M sums to zero, but removes the rounding of coinciding pairs, which would
    dominate dkappa. Masses and positions are data and receive no gradient.
    """
    mean, weight = torch.zeros_like(points), torch.zeros_like(mass)
    for image, present in iterate_present(mass):
        x, m = points[image][present], mass[image][present]
        place = None if positions is None else positions[image][present]
        mean[image][present], weight[image][present] = image_mean(
            x, concentration[image], m, place, spatial_bandwidth
        )
    return mean, weight


@blockwise_kernel_mean.register_fake
def shape_of_means(
    points: Tensor, concentration: Tensor, mass: Tensor, positions: Tensor | None, spatial_bandwidth: float
) -> tuple[Tensor, Tensor]:
    """Return tensors of the results' shapes, for `torch.compile`."""
    return torch.empty_like(points), torch.empty_like(mass)


def iterate_present(mass: Float[Tensor, "batch pixel"]) -> Iterator[tuple[int, slice | Tensor]]:
    """Yield each image, and the index of its points with a mass: all of them, or a mask."""
    for image, here in enumerate(mass):
        present = here > 0
        yield image, slice(None) if bool(present.all()) else present


def image_mean(
    points: Float[Tensor, "pixel dim"],
    concentration: Float[Tensor, ""],
    mass: Float[Tensor, " pixel"],
    positions: Float[Tensor, "pixel 2"] | None,
    spatial_bandwidth: float,
) -> tuple[Float[Tensor, "pixel dim"], Float[Tensor, " pixel"]]:
    """Return the means and the kernel's sums of one image without absent points."""
    length, dim = points.shape
    logits = Logits(points, points, concentration, positions, positions, spatial_bandwidth)
    values = mass[:, None] * torch.cat([points, torch.ones_like(mass[:, None])], 1)
    sums = points.new_zeros(dim + 1, length)
    block = max(1, min(length, GPU_BLOCK if points.is_cuda else BLOCK))
    buffer = points.new_empty(block**2)
    spare = None if positions is None else torch.empty_like(buffer)
    parts = upper_blocks(length, block, positions, SPATIAL_CUTOFF * spatial_bandwidth)
    for rows, columns, bits in logits.blocks(parts, buffer, spare):
        add_products(sums, bits.exp2_(), values, rows, columns)
    weight = sums[dim]
    return (sums[:dim] / weight).t(), weight


@torch.library.custom_op(
    "rpe::blockwise_kernel_mean_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor points, Tensor concentration, Tensor mass, Tensor? positions, "
    "Tensor mean, Tensor weight, float spatial_bandwidth) -> (Tensor, Tensor)",
)
def blockwise_kernel_mean_backward(
    gradient: Float[Tensor, "batch pixel dim"],
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    positions: Float[Tensor, "batch pixel 2"] | None,
    mean: Float[Tensor, "batch pixel dim"],
    weight: Float[Tensor, "batch pixel"],
    spatial_bandwidth: float,
) -> tuple[Float[Tensor, "batch pixel dim"], Float[Tensor, " batch"]]:
    """Return the gradients of `blockwise_kernel_mean` with respect to points and concentration."""
    to_points, to_concentration = torch.zeros_like(points), torch.zeros_like(concentration)
    for image, present in iterate_present(mass):
        to_points[image][present], to_concentration[image] = image_gradients(
            gradient[image][present],
            points[image][present],
            mass[image][present],
            mean[image][present],
            weight[image][present],
            concentration[image],
            None if positions is None else positions[image][present],
            spatial_bandwidth,
        )
    return to_points, to_concentration


@blockwise_kernel_mean_backward.register_fake
def shape_of_gradients(
    gradient: Tensor,
    points: Tensor,
    concentration: Tensor,
    mass: Tensor,
    positions: Tensor | None,
    mean: Tensor,
    weight: Tensor,
    spatial_bandwidth: float,
) -> tuple[Tensor, Tensor]:
    """Return tensors of the results' shapes, for `torch.compile`."""
    return torch.empty_like(points), torch.empty_like(concentration)


def image_gradients(
    gradient: Float[Tensor, "pixel dim"],
    points: Float[Tensor, "pixel dim"],
    mass: Float[Tensor, " pixel"],
    mean: Float[Tensor, "pixel dim"],
    weight: Float[Tensor, " pixel"],
    concentration: Float[Tensor, ""],
    positions: Float[Tensor, "pixel 2"] | None,
    spatial_bandwidth: float,
) -> tuple[Float[Tensor, "pixel dim"], Float[Tensor, ""]]:
    """Return one image's gradients with respect to points and concentration."""
    length, dim = points.shape
    logits = Logits(points, points, concentration, positions, positions, spatial_bandwidth)
    heavy = mass[:, None]
    pull = gradient / weight[:, None]
    offset = (pull * mean).sum(1, keepdim=True)
    pull_left = torch.cat([heavy * points, -heavy, pull, -offset], 1)
    pull_right = torch.cat([pull, offset, heavy * points, heavy], 1)
    values = torch.cat([points, torch.ones_like(heavy)], 1)
    pulled, swayed = points.new_zeros(dim, length), points.new_zeros(dim + 1, length)
    block = max(1, min(length, GPU_BLOCK if points.is_cuda else BLOCK))
    buffer, second = points.new_empty(2, block**2)
    parts = upper_blocks(length, block, positions, SPATIAL_CUTOFF * spatial_bandwidth)
    for rows, columns, bits in logits.blocks(parts, buffer, second):
        kernel = bits.exp2_()
        sway = multiply_block(second, pull_left[rows], pull_right[columns]).mul_(kernel)
        add_products(pulled, kernel, pull, rows, columns)
        add_products(swayed, sway, values, rows, columns)
    to_points = heavy * pulled.t() + concentration * swayed[:dim].t()
    along = (points.double() * swayed[:dim].t().double()).sum() - swayed[dim].double().sum()
    return to_points, (along / 2).to(points.dtype)


def keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep what the backward pass needs."""
    *tensors, ctx.spatial_bandwidth = inputs
    ctx.save_for_backward(*tensors, *output)


def differentiate_mean(
    ctx: Any, gradient: Tensor, to_weight: Tensor | None
) -> tuple[Tensor, Tensor, None, None, None]:
    """Return the gradients of `blockwise_kernel_mean`; the kernel's sums have none."""
    refuse_second_derivative("the blockwise mean shift")
    to_points, to_concentration = blockwise_kernel_mean_backward(
        gradient.contiguous(), *ctx.saved_tensors, ctx.spatial_bandwidth
    )
    return to_points, to_concentration, None, None, None


blockwise_kernel_mean.register_autograd(differentiate_mean, setup_context=keep_for_backward)


def fused_kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    positions: Float[Tensor, "batch pixel 2"] | None,
    spatial_bandwidth: float = 1.0,
) -> Float[Tensor, "batch pixel dim"]:
    """Compute `kernel_mean` by torch's fused attention, for the GPU.

    kappa is part of q, since `scale` is a plain number without gradient. The mass is one more column, log m.
    The last axis is padded with zeros to a multiple of 4; otherwise fp32 falls back to the kernel that builds
    the N x N matrix. Distances between positions are products here, hence `PRODUCT_RANGE`.
    """
    dim = points.shape[-1]
    present = mass > 0
    # absent points may have any value, and a non-finite key would spoil the sums even at a weight of zero
    points = torch.where(present[..., None], points, first_axis_like(points))
    one = torch.ones_like(points[..., :1])
    weight = (
        torch.where(present, mass, torch.ones_like(mass)).log().masked_fill(~present, ABSENT_LOGIT)[..., None]
    )
    query, key = [concentration[:, None, None] * points, one], [points, weight]
    if positions is not None:
        positions = centre_positions(positions, present) / spatial_bandwidth
        query, key = (
            [*query, positions],
            [points, weight - positions.square().sum(-1, keepdim=True) / 2, positions],
        )
    wide = sum(column.shape[-1] for column in query)
    wide += -wide % 4

    def padded(columns: list[Tensor]) -> Tensor:
        matrix = torch.cat(columns, -1)
        return functional.pad(matrix, (0, wide - matrix.shape[-1]))[:, None]

    mean = functional.scaled_dot_product_attention(padded(query), padded(key), padded([points]), scale=1.0)
    return mean[:, 0, :, :dim]


def centre_positions(
    positions: Float[Tensor, "batch pixel 2"], present: Bool[Tensor, "batch pixel"]
) -> Float[Tensor, "batch pixel 2"]:
    """Return positions relative to the mean of the present ones; absent ones become zero."""
    positions = torch.where(present[..., None], positions, torch.zeros_like(positions))
    centre = positions.sum(1, keepdim=True) / present.sum(1).clamp(min=1)[:, None, None]
    return torch.where(present[..., None], positions - centre, torch.zeros_like(positions))


def kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    positions: Float[Tensor, "batch pixel 2"] | None = None,
    spatial_bandwidth: float = 1.0,
) -> Float[Tensor, "batch pixel dim"]:
    """Compute the kernel-weighted mean of all points of the image around every point; not normalised.

    Args:
        points: of unit length.
        concentration: kappa of each image.
        mass: weight of each point. Points of mass 0 are absent: they count for no other point, and their own
            mean is undefined (zero on the CPU).
        positions: in the unit of the spatial bandwidth h, best near zero because of fp32.
        spatial_bandwidth: h.
    """
    if points.is_cuda and (
        positions is None
        or bool((centre_positions(positions, mass > 0).abs() <= PRODUCT_RANGE * spatial_bandwidth).all())
    ):
        return fused_kernel_mean(points, concentration, mass, positions, spatial_bandwidth)
    return blockwise_kernel_mean(points, concentration, mass, positions, spatial_bandwidth)[0]


def mean_over_keys(
    queries: Float[Tensor, "query dim"],
    keys: Float[Tensor, "key dim"],
    mass: Float[Tensor, " key"],
    concentration: float,
    query_positions: Float[Tensor, "query 2"] | None = None,
    key_positions: Float[Tensor, "key 2"] | None = None,
    spatial_bandwidth: float = 1.0,
) -> Float[Tensor, "query dim"]:
    """Compute the kernel-weighted mean of the keys around each query, in O((N + M) D) memory.

    Without gradient. Weights are relative: a query far from all keys moves to the nearest ones. Positions are
    as in `kernel_mean`.

    Args:
        queries: points of unit length.
        keys: points of unit length.
        mass: of each key.
        concentration: kappa of the kernel.
        query_positions, key_positions, spatial_bandwidth: as in `kernel_mean`.
    """
    dim = queries.shape[1]
    kappa = queries.new_tensor(concentration)
    values = mass[:, None] * torch.cat([keys, torch.ones_like(mass[:, None])], 1)
    sums = queries.new_zeros(dim + 1, len(queries))
    for rows, columns, logits in iterate_logits(
        Logits(queries, keys, kappa, query_positions, key_positions, spatial_bandwidth)
    ):
        sums[:, rows].addmm_(values[columns].t(), logits.exp2_().t())
    faint = (sums[dim] < UNDERFLOW_SHARE * mass.amax()).nonzero()[:, 0]
    if len(faint):
        # queries whose weights underflow fp32 are computed again, relative to their largest logit
        positions = None if query_positions is None else query_positions[faint]
        largest, again = (
            queries.new_full((len(faint), 1), LOWEST_LOGIT),
            queries.new_zeros(dim + 1, len(faint)),
        )
        once_more = Logits(queries[faint], keys, kappa, positions, key_positions, spatial_bandwidth)
        for rows, _, logits in iterate_logits(once_more):
            largest[rows] = torch.maximum(largest[rows], logits.amax(1, keepdim=True))
        for rows, columns, logits in iterate_logits(once_more):
            again[:, rows].addmm_(values[columns].t(), logits.sub_(largest[rows]).exp2_().t())
        sums[:, faint] = again
    mean = (sums[:dim] / sums[dim]).t()
    return torch.where(sums[dim, :, None] > 0, mean, queries)
