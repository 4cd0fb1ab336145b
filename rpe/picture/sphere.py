"""Draw points on the sphere, seen from outside, after each loop: as a still and as an animation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from rpe.overlay import colours_of
from rpe.picture.colour import project_on_principal_axes
from rpe.sphere import cosine_distance, normalise
from rpe.structures import BACKGROUND, VOID

MAX_GROUP_POINTS = 150
"""Most points drawn of one object; more would hide each other."""

FRAMES_PER_LOOP = 6
"""Frames of the animation from one loop to the next; points move along the great circle."""

FINAL_FRAMES = 12
"""Frames at the end, after the last move."""

TURN = 120.0
"""Degrees that the sphere turns about its upright axis during the animation."""

VIEWS = 500
"""Number of view directions to choose from."""

NEAR = 0.03
"""Distance below which points are drawn as one; its size grows with their number."""

BACKGROUND_COLOUR = np.array([0.62, 0.62, 0.62])
"""Colour of background and void points."""


@dataclass
class Motion:
    """The points of one image's pixels after each loop."""

    iterates: list[Float[Tensor, "pixel dim"]]
    labels: Int64[Tensor, " pixel"]
    size: tuple[int, int]

    def moves(self) -> Float[Tensor, "loop pixel"]:
        """Return the cosine distance that each point moved in each loop."""
        return torch.stack(
            [
                cosine_distance(one, other)
                for one, other in zip(self.iterates[:-1], self.iterates[1:], strict=True)
            ]
        )


Camera = Float[np.ndarray, "3 3"]
"""Unit vectors as rows: to the right, upwards, and towards the viewer."""


def project_to_space(motion: Motion) -> list[Float[np.ndarray, "pixel 3"]]:
    """Return the iterates in three dimensions.

    More dimensions are projected on the three axes through the origin with the largest sum of squares, the
    same for all iterates. So the points stay in the ball.
    """
    together = torch.cat(motion.iterates).double().cpu()
    if together.shape[1] > 3:
        together = together @ torch.linalg.svd(together.T @ together).U[:, :3]
    flat = torch.nn.functional.pad(together, (0, 3 - together.shape[1]))
    return [part.numpy() for part in flat.split(len(motion.iterates[0]))]


def choose_camera(points: Float[np.ndarray, "pixel 3"], labels: Int64[np.ndarray, " pixel"]) -> Camera:
    """Choose the view in which most groups, each counted once, are in front and far from the rim.

    Their longest spread runs from left to right.
    """
    number = np.arange(VIEWS) + 0.5
    height, angle = (
        1 - 2 * number / VIEWS,
        np.pi * (1 + 5**0.5) * number,
    )  # points spread evenly over the sphere, along a spiral
    ways = np.stack(
        [np.sqrt(1 - height**2) * np.cos(angle), np.sqrt(1 - height**2) * np.sin(angle), height], 1
    )
    seen = np.stack(
        [np.sqrt((points[labels == label] @ ways.T).clip(0)).mean(0) for label in np.unique(labels)]
    )
    towards = ways[seen.mean(0).argmax()]
    across = points - np.outer(points @ towards, towards)
    right = np.linalg.svd(across.T @ across + 1e-12 * np.eye(3))[0][:, 0]
    right -= (right @ towards) * towards
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])


def turn_camera(camera: Camera, degrees: float) -> Camera:
    """Return the camera after a turn about the upright axis; 180 is the far side."""
    angle = np.radians(degrees)
    right = np.cos(angle) * camera[0] - np.sin(angle) * camera[2]
    towards = np.sin(angle) * camera[0] + np.cos(angle) * camera[2]
    return np.stack([right, camera[1], towards])


def graticule(camera: Camera) -> list[Float[np.ndarray, "point 2"]]:
    """Return the visible parts of the circles of latitude and longitude, every 30 degrees."""
    turn = np.radians(np.arange(0, 361, 5))
    circles = [
        np.stack([np.cos(a) * np.cos(turn), np.full_like(turn, np.sin(a)), np.cos(a) * np.sin(turn)], 1)
        for a in np.radians([-60, -30, 0, 30, 60])
    ]
    circles += [
        np.stack([np.cos(turn) * np.cos(a), np.sin(turn), np.cos(turn) * np.sin(a)], 1)
        for a in np.radians(range(0, 180, 30))
    ]
    seen = [circle @ camera.T for circle in circles]
    return [np.where(circle[:, 2:] >= -0.02, circle[:, :2], np.nan) for circle in seen]


def choose_points(labels: Int64[np.ndarray, " pixel"]) -> Int64[np.ndarray, " some"]:
    """Return at most `MAX_GROUP_POINTS` evenly spaced pixels of each group, background first."""
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate(
        [
            group[np.linspace(0, len(group) - 1, min(len(group), MAX_GROUP_POINTS)).astype(int)]
            for group in groups
        ]
    )


def point_sizes(
    points: Float[np.ndarray, "pixel 3"], labels: Int64[np.ndarray, " pixel"]
) -> Float[np.ndarray, " pixel"]:
    """Return marker areas (in square points) that grow with the number of points at the same spot.

    Where several objects coincide, later ones are drawn as smaller discs on earlier ones. The visible part of
    each, disc or ring, is proportional to its number of points.
    """
    near = ((points[:, None] - points) ** 2).sum(-1) < NEAR**2
    return 7 + 0.35 * (near & (labels >= labels[:, None])).sum(1)


def point_colours(labels: Int64[np.ndarray, " pixel"]) -> Float[np.ndarray, "pixel 3"]:
    """Return a colour for each true object; background and void are grey."""
    colours = colours_of(labels[None])[0]
    colours[(labels == BACKGROUND) | (labels == VOID)] = BACKGROUND_COLOUR
    return colours


def draw_ball(axis: Axes, camera: Camera, upright: Camera) -> LineCollection:
    """Draw the outline and the graticule; return the graticule, which an animation turns."""
    axis.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal")
    axis.axis("off")
    turn = np.linspace(0, 2 * np.pi, 181)
    axis.fill(np.cos(turn), np.sin(turn), facecolor="0.975", edgecolor="0.55", linewidth=0.8, zorder=0)
    lines = LineCollection(graticule(camera @ upright.T), colors="0.86", linewidths=0.5, zorder=1)
    axis.add_collection(lines)
    return lines


def draw_sphere(motion: Motion, loops: list[int], file: Path) -> None:
    """Draw the points before the first loop and after the given loops, from the front and from behind.

    Colours tell true objects.
    """
    labels = motion.labels.cpu().numpy()
    some = choose_points(labels)
    space, colours = project_to_space(motion), point_colours(labels[some])
    camera = choose_camera(space[0], labels)
    moves = motion.moves().amax(1) if len(motion.iterates) > 1 else torch.zeros(0)
    figure = Figure(figsize=(1.9 * len(loops) + 0.3, 4.3), layout="constrained")
    for row, (side, degrees) in enumerate((("front", 0.0), ("from behind", 180.0))):
        for column, loop in enumerate(loops):
            axis = figure.add_subplot(2, len(loops), row * len(loops) + column + 1)
            here = turn_camera(camera, degrees)
            draw_ball(axis, here, camera)
            seen = space[loop][some] @ here.T
            areas = point_sizes(seen, labels[some])
            order = np.argsort(-areas, kind="stable")
            order = order[seen[order, 2] >= 0]
            axis.scatter(
                *seen[order, :2].T,
                s=areas[order],
                color=colours[order],
                edgecolors="black",
                linewidths=0.2,
                zorder=2,
            )
            if row == 0:
                axis.set_title(
                    f"$X_{{{loop}}}$" + (f"   moved {float(moves[loop - 1]):.2g} at most" if loop else ""),
                    fontsize=8,
                )
            if column == 0:
                axis.text(-1.12, 0, side, rotation=90, fontsize=8, ha="right", va="center")
    figure.savefig(file, dpi=95)


def interpolate(space: list[Float[np.ndarray, "pixel 3"]], moment: float) -> Float[np.ndarray, "pixel 3"]:
    """Return the points at a moment between two loops: along the great circle, with lengths interpolated."""
    loop = min(int(moment), len(space) - 1)
    share = moment - loop
    if share == 0 or loop + 1 == len(space):
        return space[loop]
    straight = (1 - share) * space[loop] + share * space[loop + 1]
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in space[loop : loop + 2]]
    return normalise(torch.from_numpy(straight)).numpy() * ((1 - share) * lengths[0] + share * lengths[1])


def animate_sphere(motion: Motion, truth: Float[np.ndarray, "height width 3"], file: Path) -> None:
    """Animate the points through the loops as a GIF, on a slowly turning sphere.

    The true objects and the embedding as RGB are drawn beside it.
    """
    labels = motion.labels.cpu().numpy()
    some = choose_points(labels)
    space, colours = [points[some] for points in project_to_space(motion)], point_colours(labels[some])
    pictures = [colour.reshape(*motion.size, 3) for colour in project_on_principal_axes(motion.iterates)]
    camera = choose_camera(space[0], labels[some])
    figure = Figure(figsize=(5.4, 3.7))
    axis = figure.add_axes((0.01, 0.02, 0.64, 0.9))
    lines = draw_ball(axis, camera, camera)
    dots = axis.scatter(np.zeros(len(some)), np.zeros(len(some)), zorder=2, linewidths=0)
    title = axis.set_title("", fontsize=10)
    for bottom, name, picture in ((0.5, "true objects", truth), (0.02, "embedding as RGB", pictures[0])):
        small = figure.add_axes((0.67, bottom, 0.31, 0.4))
        shown = small.imshow(picture, interpolation="nearest")
        small.set_title(name, fontsize=8)
        small.axis("off")
    last = len(space) - 1
    frames = FRAMES_PER_LOOP * last + FINAL_FRAMES

    def draw(frame: int) -> None:
        moment = min(frame / FRAMES_PER_LOOP, last)
        here = turn_camera(camera, TURN * (frame / frames - 0.5))
        seen = interpolate(space, moment) @ here.T
        areas = point_sizes(seen, labels[some])
        order = np.lexsort((-areas, seen[:, 2] >= 0))
        shade = np.where(seen[order, 2:] >= 0, 1.0, 0.3)
        dots.set_offsets(seen[order, :2])
        dots.set_sizes(areas[order])
        dots.set_facecolor(np.concatenate([colours[order], shade], 1).tolist())
        lines.set_segments(graticule(here @ camera.T))
        title.set_text(f"loop {moment:.1f} of {last}" if moment < last else f"after {last} loops")
        shown.set_data(pictures[min(round(moment), last)])

    FuncAnimation(figure, draw, frames=frames).save(str(file), writer=PillowWriter(fps=10), dpi=80)
