"""The kernel-weighted mean of all points, seen from each of them: one mean-shift step before its normalisation.

    O_j = sum_i K_ij x_i / sum_i K_ij,   K_ij = m_i exp(kappa (x_i . x_j - 1) - |p_i - p_j|^2 / (2 h^2))

It is softmax self-attention with q = kappa X and k = v = X, and never needs the N x N matrix. Two facts that attention in general
does not have make it faster here: on the sphere no logit exceeds kappa, so no running maximum is needed; and exp(..) is
symmetric, so only the tiles on and above the diagonal are computed, each serving its rows and its columns.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from rpe.pairs import GPU_TILE, TILE, add_products, refuse_second_derivative, tile_of, upper_tiles
from rpe.sphere import first_axis_like

BITS = math.log2(math.e)
"""exp(y) = 2^(y BITS): torch's exp2 takes a quarter of exp's time on a CPU, at the same accuracy."""

SIGHT = 7.0
"""Spatial bandwidths beyond which no tile is computed: all that is left out weighs 2 pi h^2 exp(-7^2 / 2) = 1.4e-10 h^2 of what a point has for itself
at the most, with h in pixels."""

PRODUCT_REACH = 8.0
"""Spatial bandwidths from the middle up to which |p_i - p_j|^2 / (2 h^2) may be a product in fp32."""

FAINT = 1e-20
"""Of the heaviest key: a query whose weights sum to less has lost digits, as fp32 holds nothing below 1e-38, and is looked at once more."""

FARTHEST = -1e30
"""No logit counts as less, so that the difference to the largest is a number."""

ABSENT = -1e9
"""Logit of a point that is not there: below what any point that is can have, and finite, as -inf times 0 is NaN."""


class Logits:
    """kappa (x_i . x_j - 1) - |p_i - p_j|^2 / (2 h^2), in bits, for tiles of points i and others j.

    The distances are one more product, p_i . p_j - |p_i|^2 / 2 - |p_j|^2 / 2 about the middle of the tile's rows. That keeps its digits where
    the rows lie within `PRODUCT_REACH` of there, and loses them all on an image that is many bandwidths wide; else they are differences, which take half
    as long again as the rest and are exact for pixel centres.
    """

    def __init__(
        self,
        points: Float[Tensor, "point dim"],
        others: Float[Tensor, "other dim"],
        concentration: Float[Tensor, ""],
        places: Float[Tensor, "point 2"] | None,
        other_places: Float[Tensor, "other 2"] | None,
        spatial_bandwidth: float,
    ) -> None:
        extra = 0 if places is None else 4
        self.left = torch.cat(
            [points, -torch.ones_like(points[:, :1]), points.new_zeros(len(points), extra)], 1
        ).mul_(BITS * concentration)
        self.right = torch.cat(
            [others, torch.ones_like(others[:, :1]), others.new_zeros(len(others), extra)], 1
        )
        self.places, self.other_places, self.spatial_bandwidth = places, other_places, spatial_bandwidth
        self.turned_to: slice | None = None
        if places is not None:
            self.left[:, -1], self.right[:, -2] = BITS, 1

    def tile(
        self,
        buffer: Float[Tensor, " size"],
        spare: Float[Tensor, " size"] | None,
        rows: slice,
        columns: slice,
    ) -> Float[Tensor, "row column"]:
        """The logits of the rows and columns, written into the buffer; `spare`, as long, is needed with places and overwritten."""
        if self.places is None or self.other_places is None or spare is None:
            return tile_of(buffer, self.left[rows], self.right[columns])
        if rows != self.turned_to:
            self.turn_to(rows, self.places[rows])
        if self.close_together:
            self.right[columns, -4:-2] = relative = (
                self.other_places[columns] - self.middle
            ) / self.spatial_bandwidth
            self.right[columns, -1] = relative.square().sum(1) / -2
            return tile_of(buffer, self.left[rows], self.right[columns])
        tile = tile_of(buffer, self.left[rows, :-4], self.right[columns, :-4])
        difference = spare[: tile.numel()].view_as(tile)
        for row, column in zip(
            self.places[rows].t(), self.other_places[columns].t().contiguous(), strict=True
        ):
            torch.sub(row[:, None], column, out=difference)
            tile.addcmul_(difference, difference, value=-BITS / (2 * self.spatial_bandwidth**2))
        return tile

    def turn_to(self, rows: slice, places: Float[Tensor, "row 2"]) -> None:
        """Make the rows' factors about their middle."""
        low, high = places.amin(0), places.amax(0)
        self.turned_to, self.middle = rows, (low + high) / 2
        self.close_together = bool((high - low).norm() <= 2 * PRODUCT_REACH * self.spatial_bandwidth)
        relative = (places - self.middle) / self.spatial_bandwidth
        self.left[rows, -4:-2] = BITS * relative
        self.left[rows, -2] = relative.square().sum(1) * (-BITS / 2)


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
        spatial_bandwidth: float,
    ) -> Float[Tensor, "pixel dim"]:
        length, dim = points.shape
        logits = Logits(points, points, concentration, places, places, spatial_bandwidth)
        values = mass[:, None] * torch.cat([points, torch.ones_like(mass[:, None])], 1)
        sums = points.new_zeros(dim + 1, length)
        tile = max(1, min(length, GPU_TILE if points.is_cuda else TILE))
        buffer = points.new_empty(tile**2)
        spare = None if places is None else torch.empty_like(buffer)
        for rows, columns in upper_tiles(length, tile, places, SIGHT * spatial_bandwidth):
            kernel = logits.tile(buffer, spare, rows, columns).exp2_()
            add_products(sums, kernel, values, rows, columns)
        weight = sums[dim]
        mean = (sums[:dim] / weight).t().contiguous()
        ctx.save_for_backward(points, concentration, mass, places, mean, weight)  # type: ignore[attr-defined, arg-type]
        ctx.spatial_bandwidth = spatial_bandwidth  # type: ignore[attr-defined]
        return mean

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: FunctionCtx, gradient: Float[Tensor, "pixel dim"]
    ) -> tuple[Tensor, Tensor, None, None, None]:
        refuse_second_derivative("the tiled mean shift")
        points, concentration, mass, places, mean, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        spatial_bandwidth: float = ctx.spatial_bandwidth  # type: ignore[attr-defined]
        length, dim = points.shape
        logits = Logits(points, points, concentration, places, places, spatial_bandwidth)
        heavy = mass[:, None]
        pull = gradient / weight[:, None]
        offset = (pull * mean).sum(1, keepdim=True)
        pull_left = torch.cat([heavy * points, -heavy, pull, -offset], 1)
        pull_right = torch.cat([pull, offset, heavy * points, heavy], 1)
        values = torch.cat([points, torch.ones_like(heavy)], 1)
        pulled, swayed = points.new_zeros(dim, length), points.new_zeros(dim + 1, length)
        tile = max(1, min(length, GPU_TILE if points.is_cuda else TILE))
        buffer, second = points.new_empty(2, tile**2)
        for rows, columns in upper_tiles(length, tile, places, SIGHT * spatial_bandwidth):
            kernel = logits.tile(buffer, second, rows, columns).exp2_()
            sway = tile_of(second, pull_left[rows], pull_right[columns]).mul_(kernel)
            add_products(pulled, kernel, pull, rows, columns)
            add_products(swayed, sway, values, rows, columns)
        to_points = heavy * pulled.t() + concentration * swayed[:dim].t()
        along = (points.double() * swayed[:dim].t().double()).sum() - swayed[dim].double().sum()
        to_concentration = (along / 2).to(points.dtype)
        return to_points, to_concentration, None, None, None


def fused_kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    places: Float[Tensor, "batch pixel 2"] | None,
    spatial_bandwidth: float = 1.0,
) -> Float[Tensor, "batch pixel dim"]:
    """The same through torch's fused attention, for the GPU.

    kappa lies inside q, since `scale` is a plain number and carries no gradient; m is one more column, log m. The last axis is padded
    with zeros to a multiple of 4, or fp32 falls back to the kernel that builds the N x N matrix. Places are products here, whence `PRODUCT_REACH`.
    """
    dim = points.shape[-1]
    present = mass > 0
    # what is absent may be anything, and a key that is not finite would spoil the sums even at a weight of zero
    points = torch.where(present[..., None], points, first_axis_like(points))
    one = torch.ones_like(points[..., :1])
    weight = torch.where(present, mass, torch.ones_like(mass)).log().masked_fill(~present, ABSENT)[..., None]
    query, key = [concentration[:, None, None] * points, one], [points, weight]
    if places is not None:
        places = centred(places, present) / spatial_bandwidth
        query, key = [*query, places], [points, weight - places.square().sum(-1, keepdim=True) / 2, places]
    wide = sum(column.shape[-1] for column in query)
    wide += -wide % 4

    def padded(columns: list[Tensor]) -> Tensor:
        joined = torch.cat(columns, -1)
        return functional.pad(joined, (0, wide - joined.shape[-1]))[:, None]

    mean = functional.scaled_dot_product_attention(padded(query), padded(key), padded([points]), scale=1.0)
    return mean[:, 0, :, :dim]


def centred(
    places: Float[Tensor, "batch pixel 2"], present: Bool[Tensor, "batch pixel"]
) -> Float[Tensor, "batch pixel 2"]:
    """Relative to the mean of those present; the others lie there."""
    places = torch.where(present[..., None], places, torch.zeros_like(places))
    centre = places.sum(1, keepdim=True) / present.sum(1).clamp(min=1)[:, None, None]
    return torch.where(present[..., None], places - centre, torch.zeros_like(places))


def kernel_mean(
    points: Float[Tensor, "batch pixel dim"],
    concentration: Float[Tensor, " batch"],
    mass: Float[Tensor, "batch pixel"],
    places: Float[Tensor, "batch pixel 2"] | None = None,
    spatial_bandwidth: float = 1.0,
) -> Float[Tensor, "batch pixel dim"]:
    """The kernel-weighted mean of all points of its image, for every point; not normalised.

    Points of mass 0 are absent: they count for nobody, and their own mean is undefined (zero on the CPU). `places` are positions in the
    unit of the spatial bandwidth h, best near zero, as fp32 carries them.
    """
    if points.is_cuda and (
        places is None or bool((centred(places, mass > 0).abs() <= PRODUCT_REACH * spatial_bandwidth).all())
    ):
        return fused_kernel_mean(points, concentration, mass, places, spatial_bandwidth)
    means = []
    for image in range(len(points)):
        present = mass[image] > 0
        if bool(present.all()):
            place = None if places is None else places[image]
            means.append(
                TiledKernelMean.apply(
                    points[image], concentration[image], mass[image], place, spatial_bandwidth
                )
            )
            continue
        place = None if places is None else places[image, present]
        mean = TiledKernelMean.apply(
            points[image, present], concentration[image], mass[image, present], place, spatial_bandwidth
        )
        means.append(torch.zeros_like(points[image]).index_put((present,), mean))
    return torch.stack(means)


def mean_over_keys(
    queries: Float[Tensor, "query dim"],
    keys: Float[Tensor, "key dim"],
    mass: Float[Tensor, " key"],
    concentration: float,
    query_places: Float[Tensor, "query 2"] | None = None,
    key_places: Float[Tensor, "key 2"] | None = None,
    spatial_bandwidth: float = 1.0,
) -> Float[Tensor, "query dim"]:
    """The kernel-weighted mean of the keys, seen from each query; without gradient, in O((N + M) D) memory.

    Weights are relative: a query far from all keys goes where the nearest ones are. Places are as in `kernel_mean`.
    """
    dim = queries.shape[1]
    kappa = queries.new_tensor(concentration)
    values = mass[:, None] * torch.cat([keys, torch.ones_like(mass[:, None])], 1)
    sums = queries.new_zeros(dim + 1, len(queries))
    for rows, columns, logits in keyed_logits(
        Logits(queries, keys, kappa, query_places, key_places, spatial_bandwidth)
    ):
        sums[:, rows].addmm_(values[columns].t(), logits.exp2_().t())
    faint = (sums[dim] < FAINT * mass.amax()).nonzero()[:, 0]
    if len(faint):
        # those whose weights are too small for fp32 once more, relative to their largest
        places = None if query_places is None else query_places[faint]
        largest, again = queries.new_full((len(faint), 1), FARTHEST), queries.new_zeros(dim + 1, len(faint))
        once_more = Logits(queries[faint], keys, kappa, places, key_places, spatial_bandwidth)
        for rows, _, logits in keyed_logits(once_more):
            largest[rows] = torch.maximum(largest[rows], logits.amax(1, keepdim=True))
        for rows, columns, logits in keyed_logits(once_more):
            again[:, rows].addmm_(values[columns].t(), logits.sub_(largest[rows]).exp2_().t())
        sums[:, faint] = again
    mean = (sums[:dim] / sums[dim]).t()
    return torch.where(sums[dim, :, None] > 0, mean, queries)


def keyed_logits(logits: Logits) -> Iterator[tuple[slice, slice, Float[Tensor, "row column"]]]:
    """The logits of all queries and keys tile by tile, with their rows and columns; one buffer holds them in turn."""
    buffer = logits.left.new_empty(TILE * 4 * TILE)
    spare = None if logits.places is None else torch.empty_like(buffer)
    for top in range(0, len(logits.left), 4 * TILE):
        rows = slice(top, min(top + 4 * TILE, len(logits.left)))
        for start in range(0, len(logits.right), TILE):
            columns = slice(start, min(start + TILE, len(logits.right)))
            yield rows, columns, logits.tile(buffer, spare, rows, columns)
