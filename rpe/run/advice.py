"""What a dimension and a margin can serve: the groups of the images that training sees, against the best packing of the sphere."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import InstanceData, SplitData
from rpe.sphere import BANDWIDTH_RANGE
from rpe.sphere_packing import can_meet, smallest_margin_soon
from rpe.structures import VOID

LOOKED_AT = 100
"""Training images whose groups are counted, evenly drawn: a second or two at most."""

SERVED = 0.95
"""Share of the images that a recommended margin serves."""


def groups_of_images(data: SplitData) -> list[int]:
    """How many groups training images hold, the background being one; boundary or not are two."""
    if not isinstance(data, InstanceData):
        return [2]
    dataset = data.dataset("train", training=True)
    indices = np.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).astype(int).tolist()
    counts = [len(torch.unique(labels[labels != VOID])) for labels in (dataset[index].labels for index in indices)]
    return [count for count in counts if count] or [1]


def share_served(groups: list[int], dimension: int, margin: float) -> float:
    """Share of images all of whose groups can meet the margin."""
    images = Counter(groups)
    return sum(number for count, number in images.items() if can_meet(count, dimension, margin)) / len(groups)


def crowded(groups: list[int]) -> int:
    """The number of groups that all but one in twenty images have at most."""
    return sorted(groups)[math.ceil(SERVED * len(groups)) - 1]


def recommended_margin(groups: list[int], dimension: int) -> float:
    """The smallest margin, in steps of 0.05, that the groups of all but one in twenty images can meet; 1 where none below does."""
    return math.ceil(20 * smallest_margin_soon(crowded(groups), dimension).margin - 1e-6) / 20


def bandwidth_for(margin: float) -> float:
    """The paper's (1 - alpha) / 3, within what the kernel takes."""
    return max(BANDWIDTH_RANGE[0], (1 - margin) / 3)


def advice(groups: list[int], dimension: int, margin: float, negative_range: float | None) -> str:
    """One line: whom the choice serves, and what would serve all but one in twenty."""
    held = f"{min(groups)} to {max(groups)}" if min(groups) < max(groups) else str(groups[0])
    if negative_range is not None:
        return (
            f"images hold {held} groups; only those within loss.negative_range {negative_range:g} pixels of each other must be apart, "
            f"so {dimension} dimensions at margin {margin:g} are asked for fewer"
        )
    share = share_served(groups, dimension, margin)
    most = "at most " if share and smallest_margin_soon(max(groups), dimension).known == "bound" else ""
    line = f"images hold {held} groups: {dimension} dimensions at margin {margin:g} can serve {most}{share:.0%} of them"
    if share >= SERVED:
        return line
    return f"{line}; the others have a loss floor, which is legal ({recommendation(groups, dimension)})"


def recommendation(groups: list[int], dimension: int) -> str:
    """The margin for all but one in twenty images, and its bandwidth; where more groups than a search can take decide, the least that it must be."""
    margin = recommended_margin(groups, dimension)
    if margin >= 1:
        return f"no margin below 1 serves {SERVED:.0%}: raise embedding.dimension"
    serves = (
        f"are the least that could serve {SERVED:.0%}" if smallest_margin_soon(crowded(groups), dimension).known == "bound" else f"serve {SERVED:.0%}"
    )
    return f"loss.margin={margin:.2f} and grouping.bandwidth={bandwidth_for(margin):.3f} {serves}"


def choices_of(config: DictConfig) -> tuple[int, float, float | None] | None:
    """Dimension, margin and negative range of a config; None where its loss has no margin."""
    dimension, margin = (OmegaConf.select(config, key) for key in ("embedding.dimension", "loss.margin"))
    if not isinstance(dimension, int) or not isinstance(margin, int | float) or not 0 <= margin < 1 or dimension < 1:
        return None
    return dimension, float(margin), config.loss.get("negative_range")


def advice_for(config: DictConfig, data: SplitData) -> str | None:
    """The line for a training; None where its loss has no margin, or boundaries are told from people's segments."""
    choices = choices_of(config)
    if choices is None or config.loss.get("groups") == "segments":
        return None
    return advice(groups_of_images(data), *choices)


class Choices(NamedTuple):
    """Of a sweep's point: what it chose, and how many groups its images hold."""

    dimension: int
    margin: float
    negative_range: float | None
    groups: list[int]


def points_that_cannot(points: dict[str, Choices]) -> list[str]:
    """A line for each point, by its name, whose margin not all images can meet; where a negative range leaves pairs out, nothing is said."""
    lines = []
    for name, point in points.items():
        share = share_served(point.groups, point.dimension, point.margin)
        if point.negative_range is None and share < 1:
            most = max(point.groups)
            least = smallest_margin_soon(most, point.dimension)
            best = f"{least.margin:.2f} is the best found for {most}" if least.known == "found" else f"{most} groups meet {least.margin:.2f} at best"
            lines.append(
                f"{name}: {1 - share:.0%} of the images hold more groups than {point.dimension} dimensions can part at margin {point.margin:g} "
                f"({best}); it runs, with a loss floor"
            )
    return lines
