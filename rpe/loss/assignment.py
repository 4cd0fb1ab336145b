"""Compute the mask-space loss: soft masks from the groups' mean directions, compared with the true masks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.sphere import normalise
from rpe.structures import BACKGROUND, VOID, FeatureMap

EMPTY_GROUP_LOGIT = -1e9
"""Logit of a group without cells: its probability is 0, and 0 times it is a number."""


def assignment_loss(
    points: FeatureMap,
    labels: Int64[Tensor, "batch height width"],
    concentration: float,
    num_groups: int | None = None,
) -> Float[Tensor, ""]:
    """Return cross-entropy plus Dice loss of the soft assignment of cells to groups, averaged over images.

    With m_c the mean direction of group c (each object, and the background), cell i belongs to group c with
    probability p_ic = softmax_c(kappa x_i . m_c), the weight of the mean-shift step towards c. The
    cross-entropy weights all groups equally. The Dice loss 1 - 2 sum_i p_ic y_ic / (sum_i p_ic + sum_i y_ic)
    is averaged over the objects. It compares whole masks where the pairwise loss compares pairs (mask-space
    losses: Dille et al., arXiv 2409.13687). Memory is O(cells x groups). Images with fewer than two
    groups have no loss and no part in the mean.

    Args:
        points: of unit length; each cell takes the label at its centre.
        labels: -1 void (ignored), 0 background, 1..n objects.
        concentration: kappa > 0.
        num_groups: labels are below this number; None reads it from the labels, which stops a GPU.
    """
    stride = points.stride
    rows, columns = labels.shape[1] // stride, labels.shape[2] // stride
    here = labels[:, stride // 2 :: stride, stride // 2 :: stride][:, :rows, :columns].flatten(1)
    # all shapes depend on the number of groups alone, which the host knows
    number = torch.arange(int(labels.max()) + 1 if num_groups is None else num_groups, device=labels.device)
    cells = points.values[:, :, :rows, :columns].flatten(2).transpose(1, 2)
    member = (here[..., None] == number).to(cells.dtype)
    count = member.sum(1)
    present = count > 0
    means = normalise(member.transpose(1, 2) @ cells)
    logits = (concentration * cells @ means.transpose(1, 2)).masked_fill(~present[:, None], EMPTY_GROUP_LOGIT)
    known = (here != VOID).to(cells.dtype)
    share = member * (count.clamp(min=1) * present.sum(1, keepdim=True).clamp(min=1)).reciprocal()[:, None]
    cross_entropy = -(share * logits.log_softmax(2)).sum((1, 2))
    probability = logits.softmax(2) * known[..., None]
    inside = (probability * member).sum(1)
    # a group without cells would divide by nothing
    dice = 1 - 2 * inside / torch.where(present, probability.sum(1) + count, 1)
    objects = present & (number > BACKGROUND)
    losses = cross_entropy + (dice * objects).sum(1) / objects.sum(1).clamp(min=1)
    several = present.sum(1) >= 2
    return (losses * several).sum() / several.sum().clamp(min=1)
