"""Compute the pairwise margin loss on points of the sphere (paper, eq. 1): all pairs, linear memory."""

import math
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from rpe.loss.hinge import blockwise_hinge
from rpe.pairs import find_infinite, float_positions, refuse_second_derivative, validate_positions
from rpe.sphere import (
    any_true,
    check_margin,
    check_points,
    check_tensor,
    check_unit_length,
    cosine_of_margin,
    find_unscaled,
    in_single,
)
from rpe.structures import VOID, UserError, check_shape


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


def pair_weights(labels: Int64[Tensor, "batch pixel"]) -> Float[Tensor, "batch pixel"]:
    """Return w_i = 1 / (pixels of i's group) in fp64; 0 on void.

    Labels are at most the number of pixels, as those of a `Batch`. The table of counts has the size of the
    image, as its own size would be read from the values.
    """
    batch, length = labels.shape
    rows = torch.arange(batch, device=labels.device)[:, None] * (length + 2)
    table = torch.zeros(batch * (length + 2), dtype=torch.float64, device=labels.device)
    place = (labels + 1 + rows).flatten()
    counts = table.index_add(0, place, table.new_ones(1).expand(len(place)))[place].reshape(labels.shape)
    return torch.where(labels == VOID, 0.0, 1 / counts)


@dataclass
class SortedGroups:
    """The pixels of each image sorted by group, once for all iterates; void pixels come first.

    All shapes are those of the labels, so that no value is read. `pixels` are the pixels' indices, `numbers`
    are those of their groups, without gaps (the void pixels have one too), `labels` VOID or equal to them,
    `counts` the pixels of each pixel's group, and `weights` the w_i, with sum 1, and 0 on void.
    """

    pixels: Int64[Tensor, "batch pixel"]
    numbers: Int64[Tensor, "batch pixel"]
    labels: Int64[Tensor, "batch pixel"]
    counts: Float[Tensor, "batch pixel"]
    weights: Float[Tensor, "batch pixel"]

    def take(self, values: Float[Tensor, "batch pixel number"]) -> Float[Tensor, "batch pixel number"]:
        """Return values of the pixels in sorted order; those of void pixels become 0."""
        chosen = values.gather(1, self.pixels[..., None].expand(-1, -1, values.shape[-1]))
        return torch.where((self.labels == VOID)[..., None], 0.0, chosen)


def sort_groups(labels: Int64[Tensor, "batch pixel"], weighting: str) -> SortedGroups:
    """Sort the pixels of each image by group."""
    here, order = torch.sort(labels, dim=1, stable=True)
    changes = functional.pad((here[:, 1:] != here[:, :-1]).long(), (1, 0))[:, : here.shape[1]]
    groups, void = changes.cumsum(1), here == VOID
    ends = (torch.searchsorted(here, here, right=right) for right in (True, False))
    counts = torch.sub(*ends).double()
    weights = torch.where(void, 0.0, torch.ones_like(counts) if weighting == "uniform" else 1 / counts)
    # the sum is 1 or more, unless all pixels are void
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
    return SortedGroups(order, groups, torch.where(void, VOID, groups), counts, weights)


def sum_attraction(points: Float[Tensor, "batch pixel dim"], groups: SortedGroups) -> Float[Tensor, " batch"]:
    """Return each image's sum over same-group pairs of w_i w_j (1 - s_ij).

    It equals sum_c w_c^2 |c| / 2 sum_{i in c} |x_i - mean_c|^2, a form that keeps its digits when groups are
    tight. The means need no gradient: to first order it is zero.
    """
    with torch.no_grad():
        factor = (groups.weights.square() * groups.counts / 2).to(points.dtype)
    return (factor * centre_groups(points, groups).square().sum(2)).sum(1)


def centre_groups(
    points: Float[Tensor, "batch pixel dim"], groups: SortedGroups
) -> Float[Tensor, "batch pixel dim"]:
    """Return x_i - mean of i's group, without gradient of the mean."""
    with torch.no_grad():
        batch, length, dim = points.shape
        member = groups.numbers + torch.arange(batch, device=points.device)[:, None] * length
        total = points.new_zeros(batch * length, dim, dtype=torch.float64)
        total = total.index_add(0, member.flatten(), points.double().flatten(0, 1))
        mean = total[member] / groups.counts[..., None]
    return points - mean.to(points.dtype)


def sum_squared_attraction(
    points: Float[Tensor, "batch pixel dim"], groups: SortedGroups
) -> Float[Tensor, " batch"]:
    """Return each image's sum over same-group pairs of w_i w_j (1 - s_ij)^2 / 2.

    On the sphere |x_i - x_j|^2 = 4 (1 - s_ij). With y = x - mean_c and a = |y|^2, sum_ij |x_i - x_j|^4 =
    2 |c| sum a^2 + 2 (sum a)^2 + 4 |Y^T Y|^2. No term cancels another. The sizes of the groups are read,
    which stops a GPU.
    """
    sums = []
    for image, labels in enumerate(groups.labels.tolist()):
        terms, start = [points[image, :0].sum()], 0
        for label, run in groupby(labels):
            part = slice(start, start := start + len(list(run)))
            if label == VOID:
                continue
            centred = points[image, part] - points[image, part].mean(dim=0)
            length = centred.square().sum(1)
            fourth = (
                2 * len(length) * length.square().sum()
                + 2 * length.sum().square()
                + 4 * (centred.t() @ centred).square().sum()
            )
            terms.append(groups.weights[image, part.start].square().to(points.dtype) * fourth / 32)
        sums.append(torch.stack(terms).sum())
    return torch.stack(sums)


def sorted_margin_loss(
    points: Float[Tensor, "batch pixel dim"],
    groups: SortedGroups,
    margin: float,
    negative_weight: float,
    positions: Float[Tensor, "batch pixel 2"] | None,
    negative_range: float | None,
    squared: bool,
) -> Float[Tensor, ""]:
    """Return `pairwise_margin_loss` for labels that are already sorted.

    Args:
        points: of unit length.
        groups: the sorted labels.
        margin, negative_weight, positions, negative_range, squared: see `pairwise_margin_loss`.
    """
    with torch.autocast(points.device.type, enabled=False):
        points = groups.take(in_single(points))
        losses = sum_attraction(points, groups)
        if squared:  # (1 - s^2) / 2 = (1 - s) - (1 - s)^2 / 2
            losses = losses - sum_squared_attraction(points, groups)
        if negative_weight:
            offsets = None
            if negative_range is not None and positions is not None:
                offsets = groups.take(float_positions(positions))
                # relative to the last pixel, which is void last, so that whole and half pixels stay exact
                offsets = (offsets - offsets[:, -1:]).to(points.dtype)
            max_distance = math.inf if negative_range is None else negative_range
            weights = groups.weights.to(points.dtype)
            hinge, _ = blockwise_hinge(
                points, groups.labels, weights, cosine_of_margin(margin), offsets, max_distance, squared
            )
            losses = losses + negative_weight * hinge
        # images without a labelled pixel have a loss of 0 and no part in the mean
        labelled = (groups.labels != VOID).any(1).sum().clamp(min=1)
        mean = losses.sum() / labelled
        # a compiled function refuses a second derivative itself
        return mean if torch.compiler.is_compiling() else OnceDifferentiable.apply(mean)


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
    used = labels != VOID
    flags = [labels < VOID, find_unscaled(points, used)]
    if positions is not None and negative_range is not None:
        flags.append(find_infinite(positions, used))
    if any_true(*flags):
        if int(labels.min()) < VOID:
            raise UserError(
                f"labels must be >= -1, got {int(labels.min())}. "
                "Use -1 for void, 0 for background, 1..n for objects."
            )
        check_unit_length(points, used)
        if positions is not None:
            validate_positions(positions, used)
    groups = sort_groups(labels, weighting)
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
    weights = pair_weights(labels[None])[0].float()
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
