"""The kernel-weighted mean of all points, seen from each of them: one mean-shift step before its normalisation.

    O_j = sum_i K_ij x_i / sum_i K_ij,   K_ij = m_i exp(kappa (x_i . x_j - 1) - |p_i - p_j|^2 / (2 h^2))

It is softmax self-attention with q = kappa X and k = v = X, and never needs the N x N matrix. Two facts that attention in general
does not have make it faster here: on the sphere no logit exceeds kappa, so no running maximum is needed; and exp(..) is
symmetric, so only the tiles on and above the diagonal are computed, each serving its rows and its columns.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from rpe.pairs import TILE, add_products, tile_of, upper_tiles

BITS = math.log2(math.e)
"""exp(y) = 2^(y BITS): torch's exp2 takes a quarter of exp's time on a CPU, at the same accuracy."""

SIGHT = 8.0
"""Spatial bandwidths beyond which no tile is computed: exp(-8^2 / 2) = 1e-14 of the weight that a point has for itself."""


def logit_factors(
    points: Float[Tensor, "pixel dim"], concentration: Float[Tensor, ""], places: Float[Tensor, "pixel 2"] | None
) -> tuple[Float[Tensor, "pixel wide"], Float[Tensor, "pixel wide"]]:
    """Two matrices A, B whose product A B^T holds the logits kappa (x_i . x_j - 1) - |p_i - p_j|^2 / 2 (p already divided by h), in bits."""
    one = torch.ones_like(points[:, :1])
    if places is None:
        return BITS * concentration * torch.cat([points, -one], 1), torch.cat([points, one], 1)
    half = places.square().sum(1, keepdim=True) / 2
    rows = BITS * torch.cat([concentration * points, places, -half - concentration, one], 1)
    return rows, torch.cat([points, places, one, -half], 1)


class TiledKernelMean(torch.autograd.Function):
    """O for one image in O(N D) memory: exact forward, exact backward by recomputed tiles.

    With u = G / d, c = (G . O) / d (G the gradient to O, d the kernel's sums) and the symmetric matrix
    M_ij = E_ij [m_i (x_i . u_j - c_j) + m_j (x_j . u_i - c_i)], the gradients are
    dx_i = m_i sum_j E_ij u_j + kappa sum_j M_ij x_j and dkappa = 1/2 sum_ij M_ij (x_i . x_j - 1). The -1 changes nothing, as M sums to
    zero, but takes the rounding of coinciding pairs out of dkappa, which would drown it.
    Masses and places are data and receive none.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        points: Float[Tensor, "pixel dim"],
        concentration: Float[Tensor, ""],
        mass: Float[Tensor, " pixel"],
        places: Float[Tensor, "pixel 2"] | None,
    ) -> Float[Tensor, "pixel dim"]:
        length, dim = points.shape
        left, right = logit_factors(points, concentration, places)
        values = mass[:, None] * torch.cat([points, torch.ones_like(mass[:, None])], 1)
        sums = points.new_zeros(dim + 1, length)
        buffer = points.new_empty(min(length, TILE) ** 2)
        for rows, columns in upper_tiles(length, TILE, places, SIGHT):
            kernel = tile_of(buffer, left[rows], right[columns]).exp2_()
            add_products(sums, kernel, values, rows, columns)
        weight = sums[dim]
        mean = (sums[:dim] / weight).t().contiguous()
        ctx.save_for_backward(points, concentration, mass, places, mean, weight)  # type: ignore[attr-defined, arg-type]
        return mean

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: FunctionCtx, gradient: Float[Tensor, "pixel dim"]
    ) -> tuple[Tensor, Tensor, None, None]:
        points, concentration, mass, places, mean, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        length, dim = points.shape
        left, right = logit_factors(points, concentration, places)
        heavy = mass[:, None]
        pull = gradient / weight[:, None]
        offset = (pull * mean).sum(1, keepdim=True)
        pull_left = torch.cat([heavy * points, -heavy, pull, -offset], 1)
        pull_right = torch.cat([pull, offset, heavy * points, heavy], 1)
        values = torch.cat([points, torch.ones_like(heavy)], 1)
        pulled, swayed = points.new_zeros(dim, length), points.new_zeros(dim + 1, length)
        buffer, second = points.new_empty(2, min(length, TILE) ** 2)
        for rows, columns in upper_tiles(length, TILE, places, SIGHT):
            kernel = tile_of(buffer, left[rows], right[columns]).exp2_()
            sway = tile_of(second, pull_left[rows], pull_right[columns]).mul_(kernel)
            add_products(pulled, kernel, pull, rows, columns)
            add_products(swayed, sway, values, rows, columns)
        to_points = heavy * pulled.t() + concentration * swayed[:dim].t()
        along = (points.double() * swayed[:dim].t().double()).sum() - swayed[dim].double().sum()
        to_concentration = (along / 2).to(points.dtype)
        return to_points, to_concentration, None, None


def fused_kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    places: Float[Tensor, "batch pixel 2"] | None,
) -> Float[Tensor, "batch pixel dim"]:
    """The same through torch's fused attention, for the GPU.

    kappa lies inside q, since `scale` is a plain number and carries no gradient; m is one more column, log m. The last axis is padded
    with zeros to a multiple of 4, or fp32 falls back to the kernel that builds the N x N matrix.
    """
    dim = points.shape[-1]
    one = torch.ones_like(points[..., :1])
    # a finite log of nothing: -inf times 1 would be NaN in the padded columns' gradients
    weight = torch.where(mass > 0, mass, torch.full_like(mass, 1e-30)).log()[..., None]
    query, key = [concentration[:, None, None] * points, one], [points, weight]
    if places is not None:
        query, key = [*query, places], [points, weight - places.square().sum(-1, keepdim=True) / 2, places]
    wide = sum(column.shape[-1] for column in query)
    wide += -wide % 4

    def padded(columns: list[Tensor]) -> Tensor:
        joined = torch.cat(columns, -1)
        return functional.pad(joined, (0, wide - joined.shape[-1]))[:, None]

    mean = functional.scaled_dot_product_attention(padded(query), padded(key), padded([points]), scale=1.0)
    return mean[:, 0, :, :dim]


def kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    places: Float[Tensor, "batch pixel 2"] | None = None,
) -> Float[Tensor, "batch pixel dim"]:
    """The kernel-weighted mean of all points of its image, for every point; not normalised.

    Points of mass 0 are absent: they count for nobody, and their own mean is undefined (zero on the CPU). `places` are
    positions divided by the spatial bandwidth h and centred on the image, so that fp32 carries their squares.
    """
    if points.is_cuda:
        return fused_kernel_mean(points, concentration, mass, places)
    means = []
    for image in range(len(points)):
        present = mass[image] > 0
        if bool(present.all()):
            place = None if places is None else places[image]
            means.append(TiledKernelMean.apply(points[image], concentration[image], mass[image], place))
            continue
        place = None if places is None else places[image, present]
        mean = TiledKernelMean.apply(points[image, present], concentration[image], mass[image, present], place)
        means.append(torch.zeros_like(points[image]).index_put((present,), mean))
    return torch.stack(means)


def mean_over_keys(
    queries: Float[Tensor, "query dim"],
    keys: Float[Tensor, "key dim"],
    mass: Float[Tensor, " key"],
    concentration: float,
    query_places: Float[Tensor, "query 2"] | None = None,
    key_places: Float[Tensor, "key 2"] | None = None,
) -> Float[Tensor, "query dim"]:
    """The kernel-weighted mean of the keys, seen from each query; without gradient, in O((N + M) D) memory.

    A query to which all keys are out of reach (exp underflows) stays where it is.
    """
    dim = queries.shape[1]
    kappa = queries.new_tensor(concentration)
    left, _ = logit_factors(queries, kappa, query_places)
    _, right = logit_factors(keys, kappa, key_places)
    values = mass[:, None] * torch.cat([keys, torch.ones_like(mass[:, None])], 1)
    sums = queries.new_zeros(dim + 1, len(queries))
    buffer = queries.new_empty(TILE * 4 * TILE)
    for top in range(0, len(queries), 4 * TILE):
        rows = slice(top, min(top + 4 * TILE, len(queries)))
        for start in range(0, len(keys), TILE):
            columns = slice(start, min(start + TILE, len(keys)))
            sums[:, rows].addmm_(values[columns].t(), tile_of(buffer, left[rows], right[columns]).exp2_().t())
    mean = (sums[:dim] / sums[dim]).t()
    return torch.where(sums[dim, :, None] > 0, mean, queries)
