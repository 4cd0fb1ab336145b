"""Embeddings, iterates, groups and masks of one image as a sheet; recall as curves."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor

from rpe.grouping import MeanShift
from rpe.metric.curve import Curve
from rpe.proposal import Proposer, Ranker, select_instances
from rpe.sphere import normalise
from rpe.structures import BACKGROUND, VOID, Batch, Embedded, pixel_centres

LARGEST = 128
"""Longest side of the drawn iterates: pictures need no more, and all their pixels take part in the loops."""


def colours_of(labels: Int64[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """A fixed distinct colour for each object; background black, void grey."""
    # steps of the golden ratio round the colour circle never come close to an earlier hue
    hue = (labels * 0.61803398875) % 1
    wheel = np.abs((hue[..., None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    colour = 0.25 + 0.75 * wheel.clip(0, 1)
    colour[labels == BACKGROUND] = 0
    colour[labels == VOID] = 0.5
    return colour


def one_projection(iterates: list[Float[Tensor, "pixel dim"]]) -> list[Float[np.ndarray, "pixel 3"]]:
    """All iterates in the same three colours: the principal axes of X_0 .. X_T together, scaled to [0, 1]."""
    together = torch.cat(iterates)
    centred = together - together.mean(0)
    axes = torch.linalg.svd(centred.T @ centred).U[:, :3]
    flat = torch.nn.functional.pad(centred @ axes, (0, 3 - axes.shape[1]))
    low, high = flat.amin(0), flat.amax(0)
    colours = (flat - low) / (high - low).clamp(min=1e-6)
    return [part.numpy() for part in colours.cpu().split(len(iterates[0]))]


def embedding_colours(batch: Batch, embedded: Embedded, grouping: MeanShift) -> list[Float[np.ndarray, "rows columns 3"]]:
    """The embedding of a batch of one image at X_0 .. X_T as RGB by one projection, its longest side at most `LARGEST`."""
    height, width = batch.labels.shape[1:]
    shrink = max(1.0, max(height, width) / LARGEST)
    small = (round(height / shrink), round(width / shrink))
    points_device = embedded.points.values.device
    centres = pixel_centres(small, points_device) * torch.tensor([height / small[0], width / small[1]], device=points_device)
    points = normalise(embedded.points.at(centres[None]))
    iterates = [iterate[0] for iterate in grouping(points)]
    return [colour.reshape(*small, 3) for colour in one_projection(iterates)]


def draw_sheet(batch: Batch, embedded: Embedded, grouping: MeanShift, proposal: Proposer, ranker: Ranker, file: Path) -> None:
    """Image, truth, embedding as RGB at X_0 .. X_T by one projection, groups and selected instances, of a batch of one image."""
    height, width = batch.labels.shape[1:]
    partitions = [labels for labels, _ in proposal.partitions(embedded, (height, width), batch.sizes[0], ranker)]
    proposals = proposal(embedded, (height, width), batch.sizes[0], ranker)
    instances = select_instances(proposals, proposal.least_score)
    panels = [("image", batch.images[0].permute(1, 2, 0).cpu().numpy()), ("truth", colours_of(batch.labels[0].cpu().numpy()))]
    panels += [(f"X_{loop}", colours) for loop, colours in enumerate(embedding_colours(batch, embedded, grouping))]
    panels += [(f"groups {number}", colours_of(labels)) for number, labels in enumerate(partitions, start=1)]
    panels += [("instances", colours_of(instances))]
    figure = Figure(figsize=(1.8 * len(panels), 2.1), layout="constrained")
    for axis, (title, panel) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(file, dpi=110)


def draw_boundaries(
    image: Float[Tensor, "3 height width"],
    labels: Int64[Tensor, "height width"],
    stages: list[Float[Tensor, "dim _ _"]],
    strength: Float[np.ndarray, "height width"],
    crests: Float[np.ndarray, "height width"],
    file: Path,
) -> None:
    """Image, truth (boundaries white, void grey), the embedding of each stage as RGB, the map, and what suppression leaves of it."""
    panels: list[tuple[str, np.ndarray]] = [("image", image.permute(1, 2, 0).numpy()), ("truth", np.array([0, 1, 0.5])[labels.numpy()])]
    for number, points in enumerate(stages, start=1):
        colour = one_projection([points.flatten(1).T])[0]
        panels.append((f"stage {number}", colour.reshape(*points.shape[1:], 3)))
    panels += [("map", strength), ("crests", crests)]
    columns = -(-len(panels) // 2)
    figure = Figure(figsize=(3.2 * columns, 6.4 * image.shape[1] / image.shape[2] + 0.6), layout="constrained")
    axes = figure.subplots(2, columns).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (title, panel) in zip(axes, panels, strict=False):
        axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    figure.savefig(file, dpi=110)


def draw_recall(against_overlap: list[Curve], against_number: list[Curve], published: list[Curve], protocol: str, file: Path) -> None:
    """Recall against the IoU asked for, and average recall against the number of masks an image; published points are hollow, never joined to ours."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in against_overlap:
        left.plot(curve.x, curve.y, label=curve.name)
    for curve in against_number:
        right.plot(curve.x, curve.y, marker=".", label=curve.name)
    for index, curve in enumerate(published):
        right.plot(curve.x, curve.y, linestyle="none", marker="osD^v<>"[index % 7], markerfacecolor="none", color="grey", label=curve.name)
    left.set(xlabel="IoU", ylabel="recall", xlim=(0.5, 1), ylim=(0, 1))
    right.set(xlabel="masks an image", ylabel=f"{protocol}: average recall", xscale="log", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)
