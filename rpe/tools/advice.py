"""Advise on dimension and margin: how many images have groups that a sphere can hold that far apart."""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch

from rpe.data.module import InstanceData, SplitData
from rpe.run.building import build_data
from rpe.run.composing import composed_jobs
from rpe.run.experiments import check_choice
from rpe.sphere import BANDWIDTH_RANGE
from rpe.sphere_packing import can_meet, smallest_margin_soon
from rpe.structures import VOID, UserError
from rpe.tools.command import command

USAGE = """
Say which share of the training images a dimension and a margin can serve, before anything is trained.
Takes the arguments of a training.

    python -m rpe.tools.advice experiment=digits embedding.dimension=3 loss.margin=0.3
    python -m rpe.tools.advice experiment=digits embedding.dimension=2,3,8 loss.margin=0.3,0.5     a line for each job of a sweep
    python -m rpe.tools.advice experiment=coco data.root=<folder> sweep=margin
"""

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
    counts = [
        len(torch.unique(labels[labels != VOID])) for labels in (dataset[index].labels for index in indices)
    ]
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
        f"are the least that could serve {SERVED:.0%}"
        if smallest_margin_soon(crowded(groups), dimension).known == "bound"
        else f"serve {SERVED:.0%}"
    )
    return f"loss.margin={margin:.2f} and grouping.bandwidth={bandwidth_for(margin):.3f} {serves}"


def advice_for(config: Any, groups: list[int]) -> str | None:
    """Return the line for a training config; None where its loss has no margin, or its groups are segments.

    Raises:
        UserError: for a dimension or a margin that no training takes.
    """
    dimension, margin = config.embedding.dimension, config.loss.get("margin")
    if margin is None or config.loss.get("groups") == "segments":
        return None
    if not isinstance(dimension, int) or dimension < 2:
        raise UserError(f"embedding.dimension must be an integer >= 2, got {dimension}")
    if not isinstance(margin, int | float) or not 0 <= margin < 1:
        raise UserError(f"loss.margin must be in [0, 1), got {margin}")
    return advice(groups, dimension, float(margin), config.loss.get("negative_range"))


def main(arguments: list[str]) -> None:
    """Print the advice for each job that the arguments, those of a training, make."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE.strip())
        return
    check_choice(arguments)
    groups: dict[str, list[int]] = {}
    for name, config in composed_jobs([argument for argument in arguments if argument != "-m"]).items():
        key = str(config.data)
        if key not in groups:
            groups[key] = groups_of_images(build_data(config))
        print(f"{name}: {advice_for(config, groups[key]) or 'its loss has no margin'}", flush=True)


if __name__ == "__main__":
    command(main)
