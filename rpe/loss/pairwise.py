"""The pairwise margin loss on points of the sphere (paper, eq. 1), over all pairs, in linear memory."""

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
    checked_positions,
    refuse_second_derivative,
    tile_of,
    upper_tiles,
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
    """sum over ordered pairs of different groups of w_i w_j max(0, s_ij - alpha), for one image sorted by label.

    A pair counts where x_i . x_j > t = 2 alpha - 1. With A the 0/1 matrix of those pairs, G = A (w x) and n = A w, the sum
    is 1/2 sum_i w_i (x_i . G_i - t n_i) and its gradient w_i G_i: one pass over the tiles gives both, and nothing but the gradient is kept.
    Squared, max(0, s_ij - alpha)^2 / 2, A holds x_i . x_j - t instead of 1; the sum then has the factor 1/8 and its gradient 1/2.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        points: Float[Tensor, "pixel dim"],
        labels: Int64[Tensor, " pixel"],
        weights: Float[Tensor, " pixel"],
        threshold: float,
        places: Float[Tensor, "pixel 2"] | None,
        reach: float,
        squared: bool,
    ) -> Float[Tensor, ""]:
        length, dim = points.shape
        values = weights[:, None] * torch.cat([points, torch.ones_like(weights[:, None])], 1)
        sums = points.new_zeros(dim + 1, length)
        tile = min(length, GPU_TILE if points.is_cuda else TILE)
        buffer = points.new_empty(tile**2)
        for rows, columns in upper_tiles(length, tile, places, reach):
            active = tile_of(buffer, points[rows], points[columns])
            active = active.sub_(threshold).clamp_(min=0) if squared else active.gt_(threshold)
            if bool(labels[rows][-1] >= labels[columns][0]):
                active.mul_(labels[rows, None] != labels[columns])
            if places is not None:
                # not divided by the range, so that distances between pixel centres are exact: a pair just at the range counts
                active.mul_((places[rows, None] - places[columns]).square().sum(-1) <= reach**2)
            add_products(sums, active, values, rows, columns)
        pulled, met = sums[:dim].t(), sums[dim]
        ctx.save_for_backward(weights[:, None] * pulled / (2 if squared else 1))  # type: ignore[attr-defined]
        excess = (points * pulled).sum(1) - threshold * met
        return (weights.double() * excess.double()).sum().to(points.dtype) / (8 if squared else 2)

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Float[Tensor, ""]
    ) -> tuple[Tensor, None, None, None, None, None, None]:  # type: ignore[override]
        (to_points,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * to_points, None, None, None, None, None, None


class OnceDifferentiable(torch.autograd.Function):
    """The loss itself. The means of the groups and the recomputed hinge carry only what the first derivative needs, so a second one is refused."""

    @staticmethod
    def forward(ctx: FunctionCtx, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        return loss.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Float[Tensor, ""]) -> Tensor:  # type: ignore[override]
        refuse_second_derivative("the pairwise loss")
        return gradient


def pair_weights(labels: Int64[Tensor, " pixel"], weighting: str) -> Float[Tensor, " pixel"]:
    """w_i in fp64: 1 / (pixels of i's group), or 1 each; 0 on void."""
    labelled = labels != VOID
    if weighting == "uniform":
        return labelled.double()
    counts = torch.bincount(labels[labelled], minlength=1)
    return torch.where(labelled, 1 / counts[labels.clamp(min=0)].double(), 0.0)


@dataclass
class Groups:
    """The labelled pixels of one image sorted by group, made once for all iterates: where they are, their groups 0..g-1 without gaps,
    how many pixels each group has, and w_i with sum 1."""

    pixels: Int64[Tensor, " pixel"]
    labels: Int64[Tensor, " pixel"]
    counts: Float[Tensor, " group"]
    weights: Float[Tensor, " pixel"]


def groups_of(labels: Int64[Tensor, " pixel"], weighting: str) -> Groups:
    """Void pixels are left out."""
    order = torch.argsort(labels, stable=True)
    order = order[int((labels == VOID).sum()) :]
    _, dense, counts = torch.unique_consecutive(labels[order], return_inverse=True, return_counts=True)
    weights = pair_weights(dense, weighting)
    return Groups(order, dense, counts.double(), weights / weights.sum())


def spread_within_groups(points: Float[Tensor, "pixel dim"], groups: Groups) -> Float[Tensor, ""]:
    """sum over pairs of one group of w_i w_j (1 - s_ij) = sum_c w_c^2 |c| / 2 sum_{i in c} |x_i - mean_c|^2.

    This form keeps its digits when groups are tight. The means carry no gradient: to first order theirs is zero.
    """
    with torch.no_grad():
        total = points.new_zeros(len(groups.counts), points.shape[1], dtype=torch.float64)
        mean = total.index_add(0, groups.labels, points.double()) / groups.counts[:, None]
        factor = (groups.weights.square() * groups.counts[groups.labels] / 2).to(points.dtype)
    return (factor * (points - mean.to(points.dtype)[groups.labels]).square().sum(1)).sum()


def squared_shortfall_within_groups(points: Float[Tensor, "pixel dim"], groups: Groups) -> Float[Tensor, ""]:
    """sum over pairs of one group of w_i w_j (1 - s_ij)^2 / 2, as |x_i - x_j|^2 = 4 (1 - s_ij) on the sphere.

    With y = x - mean_c and a = |y|^2, sum_ij |x_i - x_j|^4 = 2 |c| sum a^2 + 2 (sum a)^2 + 4 |Y^T Y|^2: no term cancels another.
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


def margin_loss_of_groups(
    points: Float[Tensor, "batch pixel dim"],
    groups: list[Groups],
    margin: float,
    negative_weight: float,
    positions: Float[Tensor, "batch pixel 2"] | None,
    negative_range: float | None,
    squared: bool,
) -> Float[Tensor, ""]:
    """`pairwise_margin_loss` with the labels already sorted."""
    threshold = cosine_of_margin(margin)
    with torch.autocast(points.device.type, enabled=False):
        points = in_single(points)
        losses = []
        for image, here in enumerate(groups):
            if len(here.pixels) == 0:
                continue
            chosen = points[image, here.pixels]
            loss = spread_within_groups(chosen, here)
            if squared:  # (1 - s^2) / 2 = (1 - s) - (1 - s)^2 / 2
                loss = loss - squared_shortfall_within_groups(chosen, here)
            if negative_weight and len(here.counts) > 1:
                places = None
                if negative_range is not None and positions is not None:
                    places = positions[image, here.pixels]
                    # about one of the pixels, which keeps whole and half pixels exact
                    places = (places - places[0]).to(points.dtype)
                reach = math.inf if negative_range is None else negative_range
                hinge = TiledHinge.apply(
                    chosen, here.labels, here.weights.to(points.dtype), threshold, places, reach, squared
                )
                loss = loss + negative_weight * hinge
            losses.append(loss)
        # no coordinate's sum is 0, with a gradient of 0, whatever the void points are
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
    """L = sum_ij w_i w_j [same group: 1 - s_ij; else: lambda max(0, s_ij - alpha)] / sum_ij w_i w_j (paper, eq. 1).

    s_ij = (1 + x_i . x_j) / 2 is the calibrated cosine similarity. All pairs of an image take part, in O(N D) memory; the mean is over
    images with a labelled pixel. Half precision is computed in fp32.

    Args:
        points: of unit length (not normalised here); those of void pixels, and their positions, may be anything.
        labels: -1 void (no part in any pair), every other value a group, the background 0 too.
        margin: alpha in [0, 1).
        negative_weight: lambda >= 0, finite.
        weighting: "group": w_i = 1 / (pixels of i's group), so that the denominator is (number of groups)^2; "uniform": 1 each.
        positions: of the pixels; needed with `negative_range`.
        negative_range: pairs of different groups farther apart than this carry no hinge, those at just this distance do; all do where it is None.
        squared: (1 - s_ij^2) / 2 and max(0, s_ij - alpha)^2 / 2 instead, what the backward of the authors' released code minimises.

    Raises:
        UserError: points, labels or positions of shapes that do not fit, a labelled point that is not of unit length, its position not
            finite, labels that are no int64, a label below -1, a setting out of range, or a range without positions. In the backward: a
            second derivative (`create_graph=True`) is asked for.
    """
    check_points(points, batch=None, pixel=None, dim=None)
    batch, length, _ = points.shape
    check_tensor("labels", labels)
    check_shape("labels", labels, batch=batch, pixel=length)
    if labels.dtype != torch.int64:
        raise UserError(f"labels are {labels.dtype}: give int64, void as -1, background 0, objects 1..n")
    if positions is not None:
        check_tensor("positions", positions)
        check_shape("positions", positions, batch=batch, pixel=length, coordinate=2)
    check_margin(margin)
    check_pair_options(weighting, negative_weight, negative_range)
    if negative_range is not None and positions is None:
        raise UserError(f"negative_range {negative_range} needs the pixels' positions")
    if labels.numel() and int(labels.min()) < VOID:
        raise UserError(f"labels hold {int(labels.min())}: void is -1, background 0, objects 1..n")
    check_unit_length(points, labels != VOID)
    if positions is not None and negative_range is not None:
        positions = checked_positions(positions, labels != VOID)
    groups = [groups_of(image, weighting) for image in labels]
    return margin_loss_of_groups(points, groups, margin, negative_weight, positions, negative_range, squared)


def check_pair_options(weighting: str, negative_weight: float, negative_range: float | None) -> None:
    """Refuse what the loss has no meaning for.

    Raises:
        UserError: naming the option.
    """
    if weighting not in ("group", "uniform"):
        raise UserError(f"weighting {weighting!r} is unknown: choose group or uniform")
    if not 0 <= negative_weight < math.inf:
        raise UserError(
            f"negative_weight {negative_weight} is negative or not finite: 0 takes no part, less would reward groups that meet"
        )
    if negative_range is not None and not negative_range > 0:
        raise UserError(
            f"negative_range {negative_range} is not positive: it is a distance in pixels, or null for all pairs"
        )


def different_groups(labels: Int64[Tensor, " pixel"]) -> Float[Tensor, "pixel pixel"]:
    """Return the weight of each pair of pixels of different groups, weighted by group like the loss, 0 elsewhere."""
    _, labels = torch.unique(labels, return_inverse=True)
    weights = pair_weights(labels, "group").float()
    return weights[:, None] * weights * (labels[:, None] != labels)


def share_over_margin(
    points: Float[Tensor, "pixel dim"], labels: Int64[Tensor, " pixel"], margin: float
) -> float:
    """Return the fraction of different-group pairs whose similarity exceeds the margin.

    Weighted by group like the loss, without void; NaN where there is no such pair.
    """
    points, labels = points[labels != VOID].float(), labels[labels != VOID]
    pair = different_groups(labels)
    return float((pair * (points @ points.T > cosine_of_margin(margin))).sum() / pair.sum())


def mean_cosine_between(points: Float[Tensor, "pixel dim"], labels: Int64[Tensor, " pixel"]) -> float:
    """Return the mean cosine of different-group pairs; near 1 the embedding is collapsed. Weights and NaN as `share_over_margin`."""
    points, labels = points[labels != VOID].float(), labels[labels != VOID]
    pair = different_groups(labels)
    return float((pair * (points @ points.T)).sum() / pair.sum())
