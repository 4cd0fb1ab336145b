"""Metrics of the embedding itself, without proposals."""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from rpe.grouping import MeanShift, find_modes
from rpe.loss import mean_cosine_between, share_over_margin
from rpe.metric.partition import adjusted_rand_index
from rpe.segment import Proposer
from rpe.sphere import normalise
from rpe.structures import BACKGROUND, VOID, NetworkOutput, pixel_centres

OBJECT_PIXELS = 1024
"""Pixels of an image's objects whose groups are compared with the truth."""

PAIR_PIXELS = 512
"""Pixels of an image whose pairs are compared with the margin, at each iterate.

They take 46 ms an image, 1,024 take 77 ms (T = 3, one core).
"""


def embedding_metrics(
    output: NetworkOutput,
    labels: Int64[Tensor, "height width"],
    grouping: MeanShift,
    proposer: Proposer,
    margin: float,
) -> dict[str, float]:
    """Return metrics of one image's embedding against its true labels.

    `ARI-X0` .. `ARI-XT`: adjusted Rand index of the groups on the true foreground at each iterate of
    training's loops. `ARI-modes`: the same after the loops of inference's first setting, with a kernel over
    all sampled pixels even where `proposal.spatial_bandwidth` is set. `margin_violations/X0` .. `/XT`:
    fraction of different-group pairs, the background one group, whose similarity exceeds the margin.
    `cosine-between-X0`: mean cosine of such pairs. An image without objects, or with one group, lacks the
    metrics that need them.

    Args:
        output: of one image.
        labels: its true labels.
        grouping: the loops of training.
        proposer: the loops of inference.
        margin: alpha of the loss.
    """
    flat = labels.flatten()
    centres = pixel_centres((labels.shape[0], labels.shape[1]), labels.device)
    metrics: dict[str, float] = {}
    objects = sample_evenly((flat > BACKGROUND).nonzero()[:, 0], OBJECT_PIXELS)
    if len(objects):
        points = normalise(output.points.at(centres[objects][None]))
        truth = flat[objects].cpu().numpy()
        for loop, iterate in enumerate(grouping(points)):
            modes = find_modes(
                iterate[0], 1.0, iterations=0, merge_tolerance=proposer.merge_tolerance, move_tolerance=0.0
            )
            metrics[f"ARI-X{loop}"] = adjusted_rand_index(truth, modes.labels.cpu().numpy())
        modes = proposer.modes(points[0], proposer.settings[0])
        metrics["ARI-modes"] = adjusted_rand_index(truth, modes.labels.cpu().numpy())
    known = sample_evenly((flat != VOID).nonzero()[:, 0], PAIR_PIXELS)
    if len(torch.unique(flat[known])) > 1:
        points = normalise(output.points.at(centres[known][None]))
        for loop, iterate in enumerate(grouping(points)):
            metrics[f"margin_violations/X{loop}"] = share_over_margin(iterate[0], flat[known], margin)
        metrics["cosine-between-X0"] = mean_cosine_between(points[0], flat[known])
    return metrics


def sample_evenly(indices: Int64[Tensor, " pixel"], most: int) -> Int64[Tensor, " some"]:
    """Return at most `most` of the indices, evenly spaced."""
    if len(indices) <= most:
        return indices
    chosen = torch.linspace(0, len(indices) - 1, most, device=indices.device, dtype=torch.float64)
    return indices[chosen.long()]


def mean_of_images(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the images that have it."""
    names = sorted({name for row in rows for name in row})
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
