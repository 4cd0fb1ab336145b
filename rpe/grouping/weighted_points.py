"""Merge points that coincide and add their masses; optionally sample the keys."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rpe.grouping.greedy import WORTHWHILE, assign_leaders, order_by_mass
from rpe.pairs import morton_order
from rpe.sphere import normalise

MERGE_RANGE = 0.25
"""With positions, points merge only within this share of the spatial bandwidth."""


@dataclass
class WeightedPoints:
    """Moving points, each representing one or more pixels; `owner` is the point that represents a pixel.

    `positions` are in the unit of the spatial bandwidth.
    """

    points: Float[Tensor, "point dim"]
    mass: Float[Tensor, " point"]
    positions: Float[Tensor, "point 2"] | None
    owner: Int64[Tensor, " pixel"]
    spatial_bandwidth: float = 1.0


def start_points(
    points: Float[Tensor, "pixel dim"],
    mass: Float[Tensor, " pixel"],
    positions: Float[Tensor, "pixel 2"] | None,
    spatial_bandwidth: float,
) -> WeightedPoints:
    """Create one point per pixel.

    With positions, neighbours follow each other, so that the kernel can skip whole blocks.
    """
    order = (
        torch.arange(len(points), device=points.device)
        if positions is None
        else morton_order(positions / spatial_bandwidth)
    )
    return WeightedPoints(
        points[order],
        mass[order],
        None if positions is None else positions[order],
        torch.argsort(order),
        spatial_bandwidth,
    )


def sample_keys(weighted: WeightedPoints, keys: int) -> WeightedPoints:
    """Draw some of the points without replacement, with a fixed seed, so that all devices agree."""
    drawn = torch.randperm(len(weighted.points), generator=torch.Generator().manual_seed(0))[:keys].to(
        weighted.points.device
    )
    positions = None if weighted.positions is None else weighted.positions[drawn]
    return WeightedPoints(
        weighted.points[drawn],
        weighted.mass[drawn],
        positions,
        torch.arange(len(drawn), device=weighted.points.device),
        weighted.spatial_bandwidth,
    )


def merge_close(weighted: WeightedPoints, tolerance: float) -> WeightedPoints:
    """Merge points within the tolerance: summed mass, mean direction and position weighted by mass."""
    # equal masses are shuffled, so that the first block of candidates has a point of every large group
    shuffle = torch.randperm(len(weighted.points), generator=torch.Generator().manual_seed(0)).to(
        weighted.points.device
    )
    order = shuffle[order_by_mass(weighted.mass[shuffle])]
    leader = assign_leaders(
        weighted.points,
        order,
        tolerance,
        weighted.positions,
        WORTHWHILE,
        MERGE_RANGE * weighted.spatial_bandwidth,
    )
    heads, member = torch.unique(leader, return_inverse=True)
    if len(heads) == len(weighted.points):
        return weighted

    def sum_by_leader(values: Tensor) -> Tensor:
        return torch.zeros(len(heads), *values.shape[1:], dtype=values.dtype, device=values.device).index_add(
            0, member, values
        )

    mass = sum_by_leader(weighted.mass)
    positions = (
        None
        if weighted.positions is None
        else sum_by_leader(weighted.positions * weighted.mass[:, None]) / mass[:, None]
    )
    together = normalise(sum_by_leader(weighted.points * weighted.mass[:, None]))
    return WeightedPoints(together, mass, positions, member[weighted.owner], weighted.spatial_bandwidth)


def sort_by_pixel(weighted: WeightedPoints) -> WeightedPoints:
    """Renumber the points by the lowest pixel that each represents; `merge_close` leaves any order."""
    pixels = torch.arange(len(weighted.owner), device=weighted.owner.device)
    lowest = torch.full_like(weighted.owner, len(pixels))[: len(weighted.points)].scatter_reduce(
        0, weighted.owner, pixels, "amin"
    )
    order = torch.argsort(lowest)
    positions = None if weighted.positions is None else weighted.positions[order]
    return WeightedPoints(
        weighted.points[order],
        weighted.mass[order],
        positions,
        torch.argsort(order)[weighted.owner],
        weighted.spatial_bandwidth,
    )
