"""Draw the gradient through mean-shift loops, for two groups and an outlier on a circle.

The outlier belongs to one group and is nearer to the other. This follows the toy example of Kong and
Fowlkes's released code (demo 5), whose 1-D points pass through 1, 3, 5 and 7 loops.
"""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rpe.grouping import mean_shift
from rpe.loss import pairwise_margin_loss
from rpe.sphere import concentration_of_bandwidth

LOOPS = (0, 1, 3, 5, 7)

COLOURS = ("#0072b2", "#e69f00", "#d55e00")
"""Colours of the first group, the second group and the outlier, safe for the colour-blind (Okabe and Ito)."""

CAPTION = (
    "Upper row: the points after each loop. Middle row: the force on each start point, which is minus the "
    "gradient of the loss on the last iterate.",
    "No loop: each point is pulled to the middle of its group. The outlier is pulled hardest, as it is "
    "the farthest away.",
    "Loops: points that the grouping moves to their group by itself (blue) get no force. The network need "
    "not learn them.",
    "The outlier moves to the wrong group. Each loop multiplies the effect of a small change of its "
    "start, and so the force that pulls it back. The group that it approaches (orange) is pushed away "
    "from it. Once it has arrived (7 loops), small changes have no effect: its force is gone.",
    "Left: the force on an outlier, by its start. The peaks are watersheds: left of them it reaches its "
    "own group, right of them the wrong one, between them it stays alone. Each loop sharpens the peaks "
    "and removes the force beyond them. Therefore the loss is applied after every loop: the early ones "
    "still pull lost outliers back.",
)
"""Explanation beside the picture."""


class Flow(NamedTuple):
    """Angles (radians) after 0 .. T loops, and the force on the start points.

    The force is minus dL/dangle, with the loss L on the last iterate.
    """

    angles: Float[Tensor, "loop point"]
    force: Float[Tensor, " point"]


def two_groups(outlier: float, members: int) -> tuple[Float[Tensor, " point"], Int64[Tensor, " point"]]:
    """Return angles in radians and labels of two groups, around -55 and 55 degrees, and of the outlier.

    The outlier (in degrees) is the last point and belongs to the first group.
    """
    spread = torch.special.ndtri((torch.arange(members, dtype=torch.float64) + 0.5) / members)
    degrees = torch.cat([-55 + 9 * spread, 55 + 9 * spread, torch.tensor([outlier], dtype=torch.float64)])
    labels = torch.tensor([1] * members + [2] * members + [1])
    return torch.deg2rad(degrees), labels


def trace_flow(
    angles: Float[Tensor, " point"],
    labels: Int64[Tensor, " point"],
    loops: int,
    bandwidth: float,
    margin: float,
) -> Flow:
    """Move points on the circle by mean shift, and differentiate the final pairwise loss by their start."""
    start = angles.clone().requires_grad_()
    iterates = mean_shift(
        torch.stack([start.cos(), start.sin()], -1)[None], concentration_of_bandwidth(bandwidth), loops
    )
    loss = pairwise_margin_loss(iterates[-1], labels[None], margin)
    (gradient,) = torch.autograd.grad(loss, start)
    return Flow(
        torch.stack([torch.atan2(points[0, :, 1], points[0, :, 0]) for points in iterates]).detach(),
        -gradient,
    )


def forces_on_outlier(
    positions: Float[np.ndarray, " position"],
    loops: tuple[int, ...],
    members: int,
    bandwidth: float,
    margin: float,
) -> Float[np.ndarray, "number position"]:
    """Return the force on an outlier that starts at each position (degrees), for each number of loops."""
    angles = torch.stack([two_groups(float(position), members)[0] for position in positions])
    labels = two_groups(0.0, members)[1].expand(len(positions), -1)
    start = angles.requires_grad_()
    iterates = mean_shift(
        torch.stack([start.cos(), start.sin()], -1), concentration_of_bandwidth(bandwidth), max(loops)
    )
    # the loss of a batch is a mean over its images, each of which has its own outlier here
    losses = [len(positions) * pairwise_margin_loss(iterates[number], labels, margin) for number in loops]
    return np.stack(
        [-torch.autograd.grad(loss, start, retain_graph=True)[0][:, -1].numpy() for loss in losses]
    )


def draw_gradients(outlier: float, members: int, bandwidth: float, margin: float, file: Path) -> None:
    """Draw trajectories, forces, and the outlier's force by its start, for each number of `LOOPS`."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    grid = figure.add_gridspec(3, len(LOOPS), height_ratios=(1, 1, 1.15))
    angles, labels = two_groups(outlier, members)
    top, below = ([figure.add_subplot(grid[row, column]) for column in range(len(LOOPS))] for row in (0, 1))
    flows = [trace_flow(angles, labels, loops, bandwidth, margin) for loops in LOOPS]
    largest = max(float(one.force.abs().max()) for one in flows)
    for axis, force_axis, loops, one in zip(top, below, LOOPS, flows, strict=True):
        draw_flow(axis, force_axis, one, labels)
        axis.set_title("no loop" if loops == 0 else f"{loops} loop{'s' if loops > 1 else ''}", fontsize=10)
        axis.set(xlim=(-0.3, max(LOOPS) + 0.3), ylim=(-90, 90), yticks=(-55, 0, 55), xlabel="loop")
        force_axis.set_yscale("symlog", linthresh=0.01, linscale=0.7)
        force_axis.set(
            xlim=(-90, 90), ylim=(-2 * largest, 2 * largest), xticks=(-55, 0, 55), xlabel="start, degrees"
        )
    top[0].set_ylabel("angle, degrees")
    below[0].set_ylabel("force at the start")
    for axis in [*top[1:], *below[1:]]:
        axis.tick_params(labelleft=False)
    draw_watershed(figure.add_subplot(grid[2, :3]), members, bandwidth, margin, outlier)
    text = figure.add_subplot(grid[2, 3:])
    text.axis("off")
    text.text(
        0,
        1,
        "\n\n".join(textwrap.fill(paragraph, 66) for paragraph in CAPTION),
        fontsize=7,
        va="top",
        transform=text.transAxes,
    )
    figure.savefig(file, dpi=90)


def draw_flow(axis: Axes, force_axis: Axes, one: Flow, labels: Int64[Tensor, " point"]) -> None:
    """Draw one column: trajectories over the loops, and the forces on the start points."""
    degrees, force = torch.rad2deg(one.angles).numpy(), one.force.numpy()
    loops = range(len(degrees))
    for kind, colour in enumerate(COLOURS):
        chosen = np.zeros(len(labels), dtype=bool)
        chosen[-1] = kind == 2
        if kind < 2:
            chosen[:-1] = labels.numpy()[:-1] == kind + 1
        wide = 1.8 if kind == 2 else 0.7
        axis.plot(
            loops,
            degrees[:, chosen],
            color=colour,
            linewidth=wide,
            marker="o",
            markersize=3 if kind == 2 else 1.5,
            zorder=kind,
        )
        force_axis.vlines(degrees[0, chosen], 0, force[chosen], color=colour, linewidth=wide)
        force_axis.plot(
            degrees[0, chosen],
            force[chosen],
            "o",
            color=colour,
            markersize=4.5 if kind == 2 else 2,
            zorder=kind + 2,
        )
    force_axis.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for each in (axis, force_axis):
        each.tick_params(labelsize=8)
        each.spines[["top", "right"]].set_visible(False)


def draw_watershed(axis: Axes, members: int, bandwidth: float, margin: float, outlier: float) -> None:
    """Draw the outlier's force by its start, one line for each number of loops."""
    positions = np.linspace(-45, 45, 181)
    shades = [str(shade) for shade in np.linspace(0.75, 0, len(LOOPS))]
    for loops, shade, force in zip(
        LOOPS, shades, forces_on_outlier(positions, LOOPS, members, bandwidth, margin), strict=True
    ):
        axis.plot(
            positions,
            np.abs(force),
            color=shade,
            linewidth=1.5,
            label="no loop" if loops == 0 else str(loops),
        )
    axis.axvline(outlier, color=COLOURS[2], linewidth=0.8, linestyle="--")
    axis.set(
        xlabel="start of the outlier, degrees (its own group at -55, the other at 55)",
        ylabel="size of the force",
        xlim=(-45, 45),
        yscale="log",
        ylim=(1e-4, 1),
    )
    axis.legend(title="loops", fontsize=8, title_fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
