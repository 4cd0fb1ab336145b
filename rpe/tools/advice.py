"""Advise on dimension and margin: the share of images whose groups fit that far apart on the sphere."""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch

from rpe.data.module import InstanceData, SplitData
from rpe.run.building import build_data
from rpe.run.composing import compose_jobs
from rpe.run.experiments import check_choice
from rpe.sphere import BANDWIDTH_RANGE
from rpe.sphere_packing import can_meet, smallest_margin_soon
from rpe.structures import VOID, UserError
from rpe.tools.command import run_tool

USAGE = """
Say which share of the training images a dimension and a margin can serve, before anything is trained.
Takes the arguments of a training.

    python -m rpe.tools.advice experiment=digits embedding.dimension=3 loss.pairwise.margin=0.3
    python -m rpe.tools.advice experiment=digits embedding.dimension=2,3,8 loss.pairwise.margin=0.3,0.5
                                                                       a line for each job of a sweep
    python -m rpe.tools.advice experiment=coco data.root=<folder> sweep=margin
"""

SAMPLED_IMAGES = 100
"""Training images whose groups are counted, evenly spaced: a second or two at most."""

SERVED_SHARE = 0.95
"""Share of the images that a recommended margin serves."""


def count_groups(data: SplitData) -> list[int]:
    """Return the numbers of groups of training images, the background being one. Boundary data have two."""
    if not isinstance(data, InstanceData):
        return [2]
    dataset = data.dataset("train", training=True)
    indices = np.linspace(0, len(dataset) - 1, min(SAMPLED_IMAGES, len(dataset))).astype(int).tolist()
    counts = [
        len(torch.unique(labels[labels != VOID])) for labels in (dataset[index].labels for index in indices)
    ]
    return [count for count in counts if count] or [1]


def share_served(groups: list[int], dimension: int, margin: float) -> float:
    """Return the share of images whose groups can meet the margin."""
    images = Counter(groups)
    return sum(number for count, number in images.items() if can_meet(count, dimension, margin)) / len(groups)


def crowded_count(groups: list[int]) -> int:
    """Return the number of groups that `SERVED_SHARE` of the images have at most."""
    return sorted(groups)[math.ceil(SERVED_SHARE * len(groups)) - 1]


def recommend_margin(groups: list[int], dimension: int) -> float:
    """Return the smallest margin, in steps of 0.05, that serves `SERVED_SHARE` of the images.

    It is 1 where no margin below does.
    """
    return math.ceil(20 * smallest_margin_soon(crowded_count(groups), dimension).margin - 1e-6) / 20


def bandwidth_for(margin: float) -> float:
    """Return the paper's bandwidth (1 - alpha) / 3, clipped to the range of the kernel."""
    return max(BANDWIDTH_RANGE[0], (1 - margin) / 3)


def format_advice(groups: list[int], dimension: int, margin: float, negative_range: float | None) -> str:
    """Return a line on the images that the margin serves, and on a margin that would serve more."""
    span = f"{min(groups)} to {max(groups)}" if min(groups) < max(groups) else str(groups[0])
    if negative_range is not None:
        return (
            f"images hold {span} groups; loss.pairwise.negative_range {negative_range:g} separates "
            f"only groups within that many pixels, "
            f"so {dimension} dimensions at margin {margin:g} need to hold fewer"
        )
    share = share_served(groups, dimension, margin)
    most = "at most " if share and smallest_margin_soon(max(groups), dimension).known == "bound" else ""
    line = (
        f"images hold {span} groups: {dimension} dimensions at margin {margin:g} "
        f"can serve {most}{share:.0%} of them"
    )
    if share >= SERVED_SHARE:
        return line
    remedy = format_recommendation(groups, dimension)
    return f"{line}; the rest cannot reach zero loss, which is expected ({remedy})"


def format_recommendation(groups: list[int], dimension: int) -> str:
    """Return the margin that serves `SERVED_SHARE` of the images, with its bandwidth.

    For more groups than a search can take, the margin is a lower bound.
    """
    margin = recommend_margin(groups, dimension)
    if margin >= 1:
        return f"no margin below 1 serves {SERVED_SHARE:.0%}: raise embedding.dimension"
    serves = (
        f"are the least that could serve {SERVED_SHARE:.0%}"
        if smallest_margin_soon(crowded_count(groups), dimension).known == "bound"
        else f"serve {SERVED_SHARE:.0%}"
    )
    return f"loss.pairwise.margin={margin:.2f} and grouping.bandwidth={bandwidth_for(margin):.3f} {serves}"


def advise_on_config(config: Any, groups: list[int]) -> str | None:
    """Return the advice for a training config; None where its loss has no margin, or its groups are segments.

    Raises:
        UserError: dimension or margin are out of range.
    """
    dimension, margin = config.embedding.dimension, config.loss.pairwise.get("margin")
    if margin is None or config.loss.get("grouping_target") == "segments":
        return None
    if not isinstance(dimension, int) or dimension < 2:
        raise UserError(f"embedding.dimension must be an integer >= 2, got {dimension}.")
    if not isinstance(margin, int | float) or not 0 <= margin < 1:
        raise UserError(f"loss.pairwise.margin must be in [0, 1), got {margin}.")
    return format_advice(groups, dimension, float(margin), config.loss.pairwise.get("negative_range"))


def main(arguments: list[str]) -> None:
    """Print the advice for each job of a training's arguments."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE.strip())
        return
    check_choice(arguments)
    groups: dict[str, list[int]] = {}
    for name, config in compose_jobs([argument for argument in arguments if argument != "-m"]).items():
        key = str(config.data)
        if key not in groups:
            groups[key] = count_groups(build_data(config))
        print(f"{name}: {advise_on_config(config, groups[key]) or 'its loss has no margin'}", flush=True)


if __name__ == "__main__":
    run_tool(main)
