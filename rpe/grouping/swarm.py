"""Points on their way to the modes: those that have met become one of their summed mass, and some may stand for all."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.grouping.greedy import WORTHWHILE, by_mass, take_greedily
from rpe.pairs import along_a_curve
from rpe.sphere import normalise


@dataclass
class Swarm:
    """Points on their way, each standing for one or more pixels; `owner` tells which point stands for a pixel.

    `places` are positions divided by the spatial bandwidth.
    """

    points: Float[Tensor, "point dim"]
    mass: Float[Tensor, " point"]
    places: Float[Tensor, "point 2"] | None
    owner: Int64[Tensor, " pixel"]


def swarm_of(points: Float[Tensor, "pixel dim"], mass: Float[Tensor, " pixel"], places: Float[Tensor, "pixel 2"] | None) -> Swarm:
    """One point for each pixel; with places neighbours follow each other, so that the kernel can leave out whole tiles."""
    order = torch.arange(len(points), device=points.device) if places is None else along_a_curve(places)
    return Swarm(points[order], mass[order], None if places is None else places[order], torch.argsort(order))


def sample_of(swarm: Swarm, keys: int) -> Swarm:
    """Some of the points, drawn without replacement; the seed is fixed, so that an image has one answer on every device."""
    drawn = torch.randperm(len(swarm.points), generator=torch.Generator().manual_seed(0))[:keys].to(swarm.points.device)
    places = None if swarm.places is None else swarm.places[drawn]
    return Swarm(swarm.points[drawn], swarm.mass[drawn], places, torch.arange(len(drawn), device=swarm.points.device))


def merged(swarm: Swarm, tolerance: float) -> Swarm:
    """The swarm with points of one place in one: summed mass, mean direction and position weighted by mass."""
    # equal masses come in a random order, so that the first block of candidates meets every large group
    shuffle = torch.randperm(len(swarm.points), generator=torch.Generator().manual_seed(0)).to(swarm.points.device)
    order = shuffle[by_mass(swarm.mass[shuffle])]
    leader = take_greedily(swarm.points, order, tolerance, swarm.places, worthwhile=WORTHWHILE)
    heads, member = torch.unique(leader, return_inverse=True)
    if len(heads) == len(swarm.points):
        return swarm

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(len(heads), *values.shape[1:], dtype=values.dtype, device=values.device).index_add(0, member, values)

    mass = summed(swarm.mass)
    places = None if swarm.places is None else summed(swarm.places * swarm.mass[:, None]) / mass[:, None]
    return Swarm(normalise(summed(swarm.points * swarm.mass[:, None])), mass, places, member[swarm.owner])
