"""Compute the pairwise margin loss on points of the sphere (paper, eq. 1): all pairs, linear memory."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rpe.pairs import (
    GPU_TILE,
    TILE,
    add_products,
    multiply_tile,
    refuse_second_derivative,
    upper_tiles,
    validate_positions,
)
from rpe.sphere import (
    check_margin,
    check_points,
    check_tensor,
    check_unit_length,
    cosine_of_margin,
    in_single,
)
from rpe.structures import VOID, UserError, check_shape


class TiledHinge(torch.autograd.Function):
    """The hinge of one image: sum over different-group pairs of w_i w_j max(0, s_ij - alpha).

    Pixels are sorted by label, pairs are ordered. A pair counts where x_i . x_j > t = 2 alpha - 1. With A the
    0/1 matrix of these pairs, G = A (w x) and n = A w, the sum is 1/2 sum_i w_i (x_i . G_i - t n_i), and its
    gradient is w_i G_i. One pass over the tiles gives both, and only the gradient is kept. If squared, the
    terms are max(0, s_ij - alpha)^2 / 2 and A holds x_i . x_j - t instead of 1. The sum then has the factor
    1/8, and its gradient 1/2.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        points: Float[Tensor, "pixel dim"],
        labels: Int64[Tensor, " pixel"],
        weights: Float[Tensor, " pixel"],
        threshold: float,
        positions: Float[Tensor, "pixel 2"] | None,
        max_distance: float,
        squared: bool,
    ) -> Float[Tensor, ""]:
        length, dim = points.shape
        values = weights[:, None] * torch.cat([points, torch.ones_like(weights[:, None])], 1)
        sums = points.new_zeros(dim + 1, length)
        tile = min(length, GPU_TILE if points.is_cuda else TILE)
        buffer = points.new_empty(tile**2)
        for rows, columns in upper_tiles(length, tile, positions, max_distance):
            active = multiply_tile(buffer, points[rows], points[columns])
            active = active.sub_(threshold).clamp_(min=0) if squared else active.gt_(threshold)
            if bool(labels[rows][-1] >= labels[columns][0]):
                active.mul_(labels[rows, None] != labels[columns])
            if positions is not None:
                # Without a division by the range, distances between pixel centres are exact, so that a pair
                # just
                # at the range counts.
                offsets = positions[rows, None] - positions[columns]
                active.mul_(offsets.square().sum(-1) <= max_distance**2)
            add_products(sums, active, values, rows, columns)
        weighted_points, weight = sums[:dim].t(), sums[dim]
        gradient = weights[:, None] * weighted_points / (2 if squared else 1)
        ctx.save_for_backward(gradient)  # type: ignore[attr-defined]
        excess = (points * weighted_points).sum(1) - threshold * weight
        return (weights.double() * excess.double()).sum().to(points.dtype) / (8 if squared else 2)

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Float[Tensor, ""]
    ) -> tuple[Tensor, None, None, None, None, None, None]:  # type: ignore[override]
        (to_points,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * to_points, None, None, None, None, None, None


class OnceDifferentiable(torch.autograd.Function):
    """The identity, which refuses a second derivative.

    The group means and the recomputed hinge carry only the terms of the first derivative.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        return loss.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Float[Tensor, ""]) -> Tensor:  # type: ignore[override]
        refuse_second_derivative("the pairwise loss")
        return gradient


def pair_weights(labels: Int64[Tensor, " pixel"], weighting: str) -> Float[Tensor, " pixel"]:
    """Return w_i in fp64: 1 / (pixels of i's group), or 1 if uniform; 0 on void."""
    labelled = labels != VOID
    if weighting == "uniform":
        return labelled.double()
    counts = torch.bincount(labels[labelled], minlength=1)
    return torch.where(labelled, 1 / counts[labels.clamp(min=0)].double(), 0.0)


@dataclass
class SortedGroups:
    """The labelled pixels of one image, sorted by group once for all iterates.

    `pixels` are their indices, `labels` their groups 0..g-1 without gaps, `counts` the pixels of each group,
    and `weights` the w_i, with sum 1.
    """

    pixels: Int64[Tensor, " pixel"]
    labels: Int64[Tensor, " pixel"]
    counts: Float[Tensor, " group"]
    weights: Float[Tensor, " pixel"]


def sort_groups(labels: Int64[Tensor, " pixel"], weighting: str) -> SortedGroups:
    """Sort the labelled pixels of one image by group."""
    order = torch.argsort(labels, stable=True)
    order = order[int((labels == VOID).sum()) :]
    _, group, counts = torch.unique_consecutive(labels[order], return_inverse=True, return_counts=True)
    weights = pair_weights(group, weighting)
    return SortedGroups(order, group, counts.double(), weights / weights.sum())


def sum_attraction(points: Float[Tensor, "pixel dim"], groups: SortedGroups) -> Float[Tensor, ""]:
    """Return the sum over same-group pairs of w_i w_j (1 - s_ij).

    It equals sum_c w_c^2 |c| / 2 sum_{i in c} |x_i - mean_c|^2, a form that keeps its digits when groups are
    tight. The means need no gradient: to first order it is zero.
    """
    with torch.no_grad():
        total = points.new_zeros(len(groups.counts), points.shape[1], dtype=torch.float64)
        mean = total.index_add(0, groups.labels, points.double()) / groups.counts[:, None]
        factor = (groups.weights.square() * groups.counts[groups.labels] / 2).to(points.dtype)
    return (factor * (points - mean.to(points.dtype)[groups.labels]).square().sum(1)).sum()


def sum_squared_attraction(points: Float[Tensor, "pixel dim"], groups: SortedGroups) -> Float[Tensor, ""]:
    """Return the sum over same-group pairs of w_i w_j (1 - s_ij)^2 / 2.

    On the sphere |x_i - x_j|^2 = 4 (1 - s_ij). With y = x - mean_c and a = |y|^2, sum_ij |x_i - x_j|^4 =
    2 |c| sum a^2 + 2 (sum a)^2 + 4 |Y^T Y|^2. No term cancels another.
    """
    terms = []
    for part, weight in zip(
        points.split(groups.counts.int().tolist()),
        groups.weights.split(groups.counts.int().tolist()),
        strict=True,
    ):
        centred = part - part.mean(dim=0)
        length = centred.square().sum(1)
        fourth = (
            2 * len(part) * length.square().sum()
            + 2 * length.sum().square()
            + 4 * (centred.t() @ centred).square().sum()
        )
        terms.append(weight[0].square().to(points.dtype) * fourth / 32)
    return torch.stack(terms).sum()


def sorted_margin_loss(
    points: Float[Tensor, "batch pixel dim"],
    groups: list[SortedGroups],
    margin: float,
    negative_weight: float,
    positions: Float[Tensor, "batch pixel 2"] | None,
    negative_range: float | None,
    squared: bool,
) -> Float[Tensor, ""]:
    """Return `pairwise_margin_loss` for labels that are already sorted."""
    threshold = cosine_of_margin(margin)
    with torch.autocast(points.device.type, enabled=False):
        points = in_single(points)
        losses = []
        for image, here in enumerate(groups):
            if len(here.pixels) == 0:
                continue
            chosen = points[image, here.pixels]
            loss = sum_attraction(chosen, here)
            if squared:  # (1 - s^2) / 2 = (1 - s) - (1 - s)^2 / 2
                loss = loss - sum_squared_attraction(chosen, here)
            if negative_weight and len(here.counts) > 1:
                offsets = None
                if negative_range is not None and positions is not None:
                    offsets = positions[image, here.pixels]
                    # relative to one pixel, which keeps whole and half pixels exact
                    offsets = (offsets - offsets[0]).to(points.dtype)
                max_distance = math.inf if negative_range is None else negative_range
                weights = here.weights.to(points.dtype)
                hinge = TiledHinge.apply(
                    chosen, here.labels, weights, threshold, offsets, max_distance, squared
                )
                loss = loss + negative_weight * hinge
            losses.append(loss)
        # the empty sum is 0 and its gradient is 0, even where void points are not finite
        return OnceDifferentiable.apply(torch.stack(losses).mean() if losses else points[..., :0].sum())


def pairwise_margin_loss(
    points: Float[Tensor, "batch pixel dim"],
    labels: Int64[Tensor, "batch pixel"],
    margin: float,
    *,
    negative_weight: float = 1.0,
    weighting: str = "group",
    positions: Real[Tensor, "batch pixel 2"] | None = None,
    negative_range: float | None = None,
    squared: bool = False,
) -> Float[Tensor, ""]:
    """Return the pairwise margin loss (paper, eq. 1), averaged over images with a labelled pixel.

    L = sum_ij w_i w_j [same group: 1 - s_ij; else: lambda max(0, s_ij - alpha)] / sum_ij w_i w_j, where s_ij
    = (1 + x_i . x_j) / 2 is the calibrated cosine similarity. The sum runs over all pairs of an image, in O(N
    D) memory. Half precision is computed in fp32.

    Args:
        points: of unit length (not normalised here). Points and positions of void pixels may have any values.
        labels: -1 is void and in no pair; each other value is a group, the background 0 too.
        margin: alpha in [0, 1).
        negative_weight: lambda >= 0, finite.
        weighting: "group" sets w_i = 1 / (pixels of i's group), so that the denominator is (number of
            groups)^2; "uniform" sets w_i = 1.
        positions: of the pixels; required with `negative_range`.
        negative_range: different-group pairs farther apart than this have no hinge; pairs at this distance
            have one. None has no limit.
        squared: use (1 - s_ij^2) / 2 and max(0, s_ij - alpha)^2 / 2 instead, which the backward pass of the
            authors' released code minimises.

    Raises:
        UserError: shapes do not fit, a labelled point is not of unit length, its position is not finite,
            labels are not int64 or below -1, a setting is out of range, or the range has no positions. The
            backward pass raises it for a second derivative (`create_graph=True`).
    """
    check_points(points, batch=None, pixel=None, dim=None)
    batch, length, _ = points.shape
    check_tensor("labels", labels)
    check_shape("labels", labels, batch=batch, pixel=length)
    if labels.dtype != torch.int64:
        raise UserError(
            f"labels must be int64, got {labels.dtype}. Use -1 for void, 0 for background, 1..n for objects."
        )
    if positions is not None:
        check_tensor("positions", positions)
        check_shape("positions", positions, batch=batch, pixel=length, coordinate=2)
    check_margin(margin)
    check_pair_options(weighting, negative_weight, negative_range)
    if negative_range is not None and positions is None:
        raise UserError(f"positions must be given with negative_range {negative_range}, got None.")
    if labels.numel() and int(labels.min()) < VOID:
        raise UserError(
            f"labels must be >= -1, got {int(labels.min())}. "
            "Use -1 for void, 0 for background, 1..n for objects."
        )
    check_unit_length(points, labels != VOID)
    if positions is not None and negative_range is not None:
        positions = validate_positions(positions, labels != VOID)
    groups = [sort_groups(image, weighting) for image in labels]
    return sorted_margin_loss(points, groups, margin, negative_weight, positions, negative_range, squared)


def check_pair_options(weighting: str, negative_weight: float, negative_range: float | None) -> None:
    """Check the options of pairs.

    Raises:
        UserError: names the option that is out of range.
    """
    if weighting not in ("group", "uniform"):
        raise UserError(f"weighting must be group or uniform, got {weighting!r}.")
    if not 0 <= negative_weight < math.inf:
        raise UserError(f"negative_weight must be finite and >= 0, got {negative_weight}.")
    if negative_range is not None and not negative_range > 0:
        raise UserError(f"negative_range must be > 0 pixels, or null for all pairs, got {negative_range}.")


def weigh_negative_pairs(labels: Int64[Tensor, " pixel"]) -> Float[Tensor, "pixel pixel"]:
    """Return the weight of each different-group pair, by group as in the loss; 0 for other pairs."""
    _, labels = torch.unique(labels, return_inverse=True)
    weights = pair_weights(labels, "group").float()
    return weights[:, None] * weights * (labels[:, None] != labels)


def share_over_margin(
    points: Float[Tensor, "pixel dim"], labels: Int64[Tensor, " pixel"], margin: float
) -> float:
    """Return the fraction of different-group pairs whose similarity exceeds the margin.

    Pairs are weighted by group as in the loss, without void. NaN without such a pair.
    """
    points, labels = points[labels != VOID].float(), labels[labels != VOID]
    pair = weigh_negative_pairs(labels)
    return float((pair * (points @ points.T > cosine_of_margin(margin))).sum() / pair.sum())


def mean_cosine_between(points: Float[Tensor, "pixel dim"], labels: Int64[Tensor, " pixel"]) -> float:
    """Return the mean cosine of different-group pairs; near 1 the embedding is collapsed.

    Weights and NaN are as in `share_over_margin`.
    """
    points, labels = points[labels != VOID].float(), labels[labels != VOID]
    pair = weigh_negative_pairs(labels)
    return float((pair * (points @ points.T)).sum() / pair.sum())
