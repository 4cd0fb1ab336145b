"""Points on their way to the modes: those that have met become one of their summed mass, and some may stand for all."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.grouping.greedy import WORTHWHILE, by_mass, take_greedily
from rpe.pairs import along_a_curve
from rpe.sphere import normalise

MERGE_REACH = 0.25
"""With positions, points merge only within this share of the spatial bandwidth."""


@dataclass
class WeightedPoints:
    """Points on their way, each standing for one or more pixels; `owner` tells which point stands for a pixel.

    `places` are positions in the unit of the spatial bandwidth.
    """

    points: Float[Tensor, "point dim"]
    mass: Float[Tensor, " point"]
    places: Float[Tensor, "point 2"] | None
    owner: Int64[Tensor, " pixel"]
    spatial_bandwidth: float = 1.0


def swarm_of(
    points: Float[Tensor, "pixel dim"],
    mass: Float[Tensor, " pixel"],
    places: Float[Tensor, "pixel 2"] | None,
    spatial_bandwidth: float,
) -> WeightedPoints:
    """One point for each pixel; with places neighbours follow each other, so that the kernel can leave out whole tiles."""
    order = (
        torch.arange(len(points), device=points.device)
        if places is None
        else along_a_curve(places / spatial_bandwidth)
    )
    return WeightedPoints(
        points[order],
        mass[order],
        None if places is None else places[order],
        torch.argsort(order),
        spatial_bandwidth,
    )


def sample_of(swarm: WeightedPoints, keys: int) -> WeightedPoints:
    """Some of the points, drawn without replacement; the seed is fixed, so that an image has one answer on every device."""
    drawn = torch.randperm(len(swarm.points), generator=torch.Generator().manual_seed(0))[:keys].to(
        swarm.points.device
    )
    places = None if swarm.places is None else swarm.places[drawn]
    return WeightedPoints(
        swarm.points[drawn],
        swarm.mass[drawn],
        places,
        torch.arange(len(drawn), device=swarm.points.device),
        swarm.spatial_bandwidth,
    )


def merge_close(swarm: WeightedPoints, tolerance: float) -> WeightedPoints:
    """The swarm with points of one place in one: summed mass, mean direction and position weighted by mass."""
    # equal masses come in a random order, so that the first block of candidates meets every large group
    shuffle = torch.randperm(len(swarm.points), generator=torch.Generator().manual_seed(0)).to(
        swarm.points.device
    )
    order = shuffle[by_mass(swarm.mass[shuffle])]
    leader = take_greedily(
        swarm.points, order, tolerance, swarm.places, WORTHWHILE, MERGE_REACH * swarm.spatial_bandwidth
    )
    heads, member = torch.unique(leader, return_inverse=True)
    if len(heads) == len(swarm.points):
        return swarm

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(len(heads), *values.shape[1:], dtype=values.dtype, device=values.device).index_add(
            0, member, values
        )

    mass = summed(swarm.mass)
    places = None if swarm.places is None else summed(swarm.places * swarm.mass[:, None]) / mass[:, None]
    together = normalise(summed(swarm.points * swarm.mass[:, None]))
    return WeightedPoints(together, mass, places, member[swarm.owner], swarm.spatial_bandwidth)


def in_order_of_pixels(swarm: WeightedPoints) -> WeightedPoints:
    """The swarm with its points numbered by the lowest pixel that each stands for; `merged` numbers them by chance."""
    pixels = torch.arange(len(swarm.owner), device=swarm.owner.device)
    lowest = torch.full_like(swarm.owner, len(pixels))[: len(swarm.points)].scatter_reduce(
        0, swarm.owner, pixels, "amin"
    )
    order = torch.argsort(lowest)
    places = None if swarm.places is None else swarm.places[order]
    return WeightedPoints(
        swarm.points[order],
        swarm.mass[order],
        places,
        torch.argsort(order)[swarm.owner],
        swarm.spatial_bandwidth,
    )
