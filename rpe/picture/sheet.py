"""Draw embedding, iterates, groups and masks of one image as a sheet."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.grouping import MeanShift
from rpe.overlay import colours_of
from rpe.picture.colour import project_on_principal_axes
from rpe.picture.panels import draw_panels
from rpe.segment import Segmenter
from rpe.sphere import cosine_distance, normalise
from rpe.structures import Batch, NetworkOutput, pixel_centres

LONGEST_SIDE = 128
"""Longest side of the drawn iterates. It is small because all their pixels pass through the loops."""


def sample_points(
    output: NetworkOutput, labels: Int64[Tensor, "1 height width"]
) -> tuple[Float[Tensor, "1 pixel dim"], tuple[int, int]]:
    """Return the points of an image's pixels, row by row, and their (rows, columns).

    Larger images are sampled so that their longest side has `LONGEST_SIDE` pixels.
    """
    height, width = labels.shape[1:]
    shrink = max(1.0, max(height, width) / LONGEST_SIDE)
    small = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    device = output.points.values.device
    centres = pixel_centres(small, device) * torch.tensor(
        [height / small[0], width / small[1]], device=device
    )
    return normalise(output.points.at(centres[None])), small


def embedding_colours(
    batch: Batch, output: NetworkOutput, grouping: MeanShift
) -> list[Float[np.ndarray, "rows columns 3"]]:
    """Return X_0 .. X_T of a batch of one image as RGB, in one projection.

    Their longest side is at most `LONGEST_SIDE`.
    """
    points, small = sample_points(output, batch.labels)
    return [
        colour.reshape(*small, 3)
        for colour in project_on_principal_axes([iterate[0] for iterate in grouping(points)])
    ]


def draw_sheet(batch: Batch, segmenter: Segmenter, file: Path) -> None:
    """Draw image, truth, X_0 .. X_T as RGB, groups and instances of a batch of one image.

    X_0 .. X_T share one projection. Their titles name the largest move (cosine distance) of each loop.
    """
    output, geometry = segmenter.embed_one(batch)
    points, small = sample_points(output, batch.labels)
    with torch.no_grad():
        iterates = [iterate[0] for iterate in segmenter.network.grouping(points)]
    moves = [
        f"\nmoved {float(cosine_distance(one, other).max()):.2g} at most" for one, other in pairwise(iterates)
    ]
    partitions = [labels for labels, _ in segmenter.proposer.partitions(output, geometry)]
    panels = [
        ("image", batch.images[0].permute(1, 2, 0).cpu().numpy()),
        ("truth", colours_of(batch.labels[0].cpu().numpy())),
    ]
    panels += [
        (f"X_{loop}{move}", colour.reshape(*small, 3))
        for loop, (colour, move) in enumerate(
            zip(project_on_principal_axes(iterates), ["", *moves], strict=True)
        )
    ]
    panels += [(f"groups {number}", colours_of(labels)) for number, labels in enumerate(partitions, start=1)]
    panels += [("instances", colours_of(segmenter.piece(output, geometry).labels))]
    draw_panels(panels, len(panels), 200, file)


def draw_boundaries(
    image: Float[Tensor, "3 height width"],
    labels: Int64[Tensor, "height width"],
    stages: list[Float[Tensor, "dim _ _"]],
    strength: Float[np.ndarray, "height width"],
    crests: Float[np.ndarray, "height width"],
    file: Path,
) -> None:
    """Draw image, truth, the embedding of each stage as RGB, the boundary map and its crests.

    In the truth, boundaries are white and void is grey. The crests are the map after non-maximum suppression.
    """
    panels: list[tuple[str, np.ndarray]] = [
        ("image", image.permute(1, 2, 0).numpy()),
        ("truth", np.array([0, 1, 0.5])[labels.numpy()]),
    ]
    for number, points in enumerate(stages, start=1):
        colour = project_on_principal_axes([points.flatten(1).T])[0]
        panels.append((f"stage {number}", colour.reshape(*points.shape[1:], 3)))
    panels += [("map", strength), ("crests", crests)]
    draw_panels(panels, -(-len(panels) // 2), 350, file)
