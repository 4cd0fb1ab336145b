"""Draw what mean-shift loops do to an image: moves of points, and the embedding as RGB after each loop.

Blurring and non-blurring mean shift are drawn side by side.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rpe.picture.colour import principal_axes, project, project_on_principal_axes, random_axes
from rpe.picture.sphere import Motion

FAINTEST = 1e-8
"""Least move that is drawn; smaller ones are rounding errors of fp32."""

Picture = Float[np.ndarray, "height width 3"]


def moves_table(motions: dict[str, Motion]) -> str:
    """Return CSV rows, one per loop: the largest and the mean move (cosine distance) of each motion."""
    header = ["loop", *(f"{name} {column}" for name in motions for column in ("largest", "mean"))]
    columns = [
        column for motion in motions.values() for column in (motion.moves().amax(1), motion.moves().mean(1))
    ]
    rows = [
        [str(loop), *(f"{float(column[loop - 1]):.3e}" for column in columns)]
        for loop in range(1, 1 + min(map(len, columns), default=0))
    ]
    return "\n".join(",".join(row) for row in [header, *rows]) + "\n"


def draw_moves(axis: Axes, motions: dict[str, Motion]) -> None:
    """Draw the largest (solid) and mean (dashed) move of each loop."""
    for index, (name, motion) in enumerate(motions.items()):
        moves = motion.moves().clamp(min=FAINTEST)
        loops = range(1, 1 + len(moves))
        axis.plot(loops, moves.amax(1).cpu(), color=f"C{index}", marker=".", label=f"{name}, largest")
        axis.plot(
            loops, moves.mean(1).cpu(), color=f"C{index}", marker=".", linestyle="--", label=f"{name}, mean"
        )
    axis.set(yscale="log", xlabel="loop", ylabel="move (cosine distance)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, frameon=False)


def draw_comparison(
    motions: dict[str, Motion], loops: list[int], image: Picture, truth: Picture, file: Path
) -> None:
    """Draw one row per motion, the embedding after the given loops in one projection, and the moves below."""
    colours = project_on_principal_axes(
        [iterate for motion in motions.values() for iterate in motion.iterates]
    )
    figure = Figure(figsize=(1.55 * (len(loops) + 1), 1.7 * len(motions) + 2.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.7 * len(motions), 2.6))
    axes = upper.subplots(len(motions), len(loops) + 1, squeeze=False)
    begin = 0
    for row, (name, motion) in zip(axes, motions.items(), strict=True):
        for axis, loop in zip(row[1:], loops, strict=True):
            draw_panel(axis, colours[begin + loop].reshape(*motion.size, 3), f"{name}, $X_{{{loop}}}$")
        begin += len(motion.iterates)
    for row, (name, picture) in zip(axes, (("image", image), ("true objects", truth)), strict=False):
        draw_panel(row[0], picture, name)
    draw_moves(lower.subplots(), motions)
    figure.savefig(file, dpi=110)


def draw_projections(
    motion: Motion, loops: list[int], image: Picture, truth: Picture, seeds: list[int], file: Path
) -> None:
    """Draw the embedding as RGB after the given loops: along principal axes first, then along random ones."""
    rows = [("principal axes", principal_axes(motion.iterates))]
    rows += [(f"random axes {seed}", random_axes(motion.iterates[0].shape[1], seed)) for seed in seeds]
    figure = Figure(figsize=(1.45 * (len(loops) + 1), 1.65 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(loops) + 1, squeeze=False)
    for row, (name, directions) in zip(axes, rows, strict=True):
        row[0].axis("off")
        colours = project(motion.iterates, directions)
        for axis, loop in zip(row[1:], loops, strict=True):
            draw_panel(
                axis,
                colours[loop].reshape(*motion.size, 3),
                f"$X_{{{loop}}}$, {name}" if loop == loops[0] else f"$X_{{{loop}}}$",
            )
    for row, (name, picture) in zip(axes, (("image", image), ("true objects", truth)), strict=False):
        draw_panel(row[0], picture, name)
    figure.savefig(file, dpi=110)


def draw_panel(axis: Axes, picture: Picture, title: str) -> None:
    """Draw one panel."""
    axis.imshow(picture.clip(0, 1), interpolation="nearest")
    axis.set_title(title, fontsize=7)
    axis.axis("off")


def spread_loops(last: int, most: int) -> list[int]:
    """Return at most `most` loops from 0 to `last`: the first ones one by one, then with growing steps."""
    if last < most:
        return list(range(last + 1))
    return [0, *np.unique(np.round(np.geomspace(1, last, most - 1)).astype(int)).tolist()]
