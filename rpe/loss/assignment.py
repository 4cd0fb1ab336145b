"""Compute the mask-space loss: soft masks from the groups' mean directions, compared with the true masks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from rpe.sphere import normalise
from rpe.structures import BACKGROUND, VOID, FeatureMap


def assignment_loss(
    points: FeatureMap, labels: Int64[Tensor, "batch height width"], concentration: float
) -> Float[Tensor, ""]:
    """Return cross-entropy plus Dice loss of the soft assignment of cells to groups, averaged over images.

    With m_c the mean direction of group c (each object, and the background), cell i belongs to group c with
    probability p_ic = softmax_c(kappa x_i . m_c), the weight of the mean-shift step towards c. The
    cross-entropy weights all groups equally. The Dice loss 1 - 2 sum_i p_ic y_ic / (sum_i p_ic + sum_i y_ic)
    is averaged over the objects. It compares whole masks where the pairwise loss compares pairs (mask-space
    losses: Dille et al., arXiv 2409.13687). Memory is O(cells x groups). Images without an object have no
    loss.

    Args:
        points: of unit length; each cell takes the label at its centre.
        labels: -1 void (ignored), 0 background, 1..n objects.
        concentration: kappa > 0.
    """
    stride = points.stride
    losses = []
    for cells, truth in zip(points.values, labels, strict=True):
        rows, columns = truth.shape[0] // stride, truth.shape[1] // stride
        here = truth[stride // 2 :: stride, stride // 2 :: stride][:rows, :columns].flatten()
        known = (here != VOID).nonzero()[:, 0]
        present, group, count = torch.unique(here[known], return_inverse=True, return_counts=True)
        if len(present) < 2:
            continue
        count = count.to(cells.dtype)
        x = cells[:, :rows, :columns].flatten(1).T[known]
        sums = torch.zeros(len(present), x.shape[1], dtype=x.dtype, device=x.device).index_add(0, group, x)
        logits = concentration * x @ normalise(sums).T
        cross_entropy = functional.cross_entropy(logits, group, weight=len(known) / len(present) / count)
        probability, objects = logits.softmax(1), present > BACKGROUND
        inside = torch.zeros_like(sums[:, 0]).index_add(0, group, probability.gather(1, group[:, None])[:, 0])
        dice = 1 - 2 * inside / (probability.sum(0) + count)
        losses.append(cross_entropy + dice[objects].mean())
    return torch.stack(losses).mean() if losses else points.values.sum() * 0
