"""The mask-space term: pixels are assigned to their groups' mean directions, and the soft masks are held against the true ones."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from rpe.sphere import normalise
from rpe.structures import BACKGROUND, VOID, FeatureMap


def assignment_loss(
    points: FeatureMap, labels: Int64[Tensor, "batch height width"], concentration: float
) -> Float[Tensor, ""]:
    """Return the mean over images of the cross-entropy and the Dice loss of the soft assignment of cells to groups.

    With m_c the mean direction of group c (each object, and the background), cell i is of group c with probability
    p_ic = softmax_c(kappa x_i . m_c), the step that mean shift takes towards c. The cross-entropy weighs each group the same; the Dice loss
    1 - 2 sum_i p_ic y_ic / (sum_i p_ic + sum_i y_ic) is averaged over the objects. It sees whole masks where the pairwise loss sees pairs
    (mask-space losses: Dille et al., arXiv 2409.13687). O(cells x groups) memory; images without an object carry no loss.

    Args:
        points: of unit length; labels are read where each cell's centre lies.
        labels: -1 void (takes no part), 0 background, 1..n objects.
        concentration: kappa > 0 of the assignment.
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
