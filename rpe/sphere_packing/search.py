"""Search the best arrangement of n points on S^(D-1) (Tammes problem), and the smallest loss at a margin."""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

from rpe.sphere import check_margin, normalise
from rpe.sphere_packing.bound import exact_similarity
from rpe.structures import check_count

ENERGY_STEPS = 400
"""Steps of the descent that spreads random points."""

POLISH_COUNT = 6
"""Number of best starts that are polished; only one for large arrangements, which take seconds each."""

LARGE_SIZE = 200
"""Coordinates of all points together above which an arrangement is large."""

LINEAR_STEPS = 60
"""The most linear programs per polishing."""

MIN_GAIN = 1e-9
"""A step with a smaller gain ends the polishing."""


def best_arrangement(groups: int, dimension: int, starts: int, seed: int) -> Float[Tensor, "group dim"]:
    """Search the arrangement with the smallest largest similarity; float64.

    `starts` sets of random points are spread by repulsion in one batch: a third of them free, a third
    antipodal, a third with a threefold rotation. Good codes often have symmetries that free points hardly
    ever reach (24 points in D = 4: free starts end at cosine 0.517, the 24-cell has 0.5). The best starts are
    then polished to their local optimum by linear programs on all nearly closest pairs.

    Raises:
        UserError: a number below 1.
    """
    for name, value in (("groups", groups), ("dimension", dimension), ("starts", starts)):
        check_count(name, value, 1, "the search needs at least one")
    if groups == 1:
        return torch.eye(dimension, dtype=torch.float64)[:1]
    generator = torch.Generator().manual_seed(seed)
    spread = torch.cat(
        [
            spread_points(kind, groups, dimension, -(-starts // 3), generator)
            for kind in ("free", "antipodal", "threefold")
        ]
    )
    order = largest_cosines(spread).argsort()
    polished_at_most = POLISH_COUNT if groups * dimension <= LARGE_SIZE else 1
    best: Float[Tensor, "group dim"] | None = None
    tried: list[float] = []
    for points in spread[order]:
        found = float(largest_cosines(points[None]))
        if len(tried) == polished_at_most or any(abs(found - other) < 1e-7 for other in tried):
            continue
        tried.append(found)
        polished = polish(points)
        if best is None or largest_cosines(polished[None]) < largest_cosines(best[None]):
            best = polished
    assert best is not None
    return best


def largest_cosines(points: Float[Tensor, "start group dim"]) -> Float[Tensor, " start"]:
    """Return the largest cosine between two points of each arrangement."""
    products = points @ points.transpose(1, 2)
    return (products - 3 * torch.eye(points.shape[1], dtype=points.dtype)).amax((1, 2))


def spread_points(
    kind: str, groups: int, dimension: int, starts: int, generator: torch.Generator
) -> Float[Tensor, "start group dim"]:
    """Spread random points by repulsion: descend on the soft maximum of all cosines with rising sharpness."""
    copies = {"free": 1, "antipodal": 2, "threefold": 3}[kind]
    free = groups % copies
    seeds = groups // copies + free
    third = torch.eye(dimension, dtype=torch.float64)
    # rotated by a third in every plane; an odd dimension leaves the last axis fixed
    for first in range(0, dimension - 1, 2):
        third[first : first + 2, first : first + 2] = torch.tensor(
            [[-0.5, -math.sqrt(0.75)], [math.sqrt(0.75), -0.5]], dtype=torch.float64
        )
    turn = {"free": third, "antipodal": -torch.eye(dimension, dtype=torch.float64), "threefold": third}[kind]

    def expand_orbit(raw: Float[Tensor, "start seed dim"]) -> Float[Tensor, "start group dim"]:
        points = normalise(raw)
        orbit = [points[:, free:]]
        for _ in range(copies - 1):
            orbit.append(orbit[-1] @ turn)
        return torch.cat([points[:, :free], *orbit], dim=1)

    raw = torch.randn(starts, seeds, dimension, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.05)
    own = 9 * torch.eye(groups, dtype=torch.float64)
    for step in range(ENERGY_STEPS):
        sharpness = 5 * 400 ** (step / ENERGY_STEPS)
        optimizer.param_groups[0]["lr"] = 0.05 * 0.01 ** (step / ENERGY_STEPS)
        points = expand_orbit(raw)
        energy = (
            torch.logsumexp(sharpness * (points @ points.transpose(1, 2) - own).flatten(1), dim=1) / sharpness
        )
        optimizer.zero_grad()
        energy.sum().backward()
        optimizer.step()
    return expand_orbit(raw.detach())


def polish(points: Float[Tensor, "group dim"]) -> Float[Tensor, "group dim"]:
    """Return the local optimum near an arrangement.

    Each step solves the linear program min t, x_i . x_j + d_i . x_j + x_i . d_j <= t, d_i . x_i = 0, |d| <=
    r, over the nearly closest pairs, for steps d_i and the largest cosine t. r shrinks where a step gains
    nothing.
    """
    here = points.numpy().copy()
    radius, found = 0.05, largest_cosine(here)
    for _ in range(LINEAR_STEPS):
        step = linear_step(here, radius, found - 4 * radius)
        if step is None:
            break
        moved = here + step
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        gained = found - largest_cosine(moved)
        if gained > 0:
            here, found = moved, found - gained
        # near the optimum the error of a linear step is its square
        radius = max(float(np.abs(step).max()), 1e-12) if gained > 0.1 * radius else radius / 4
        if (0 < gained < MIN_GAIN * 0.01 and radius < 1e-5) or radius < MIN_GAIN:
            break
    return torch.from_numpy(here)


def largest_cosine(points: Float[np.ndarray, "group dim"]) -> float:
    """Return the largest cosine between two of the points."""
    return float((points @ points.T - 3 * np.eye(len(points))).max())


def linear_step(
    points: Float[np.ndarray, "group dim"], radius: float, least: float
) -> Float[np.ndarray, "group dim"] | None:
    """Return the linear program's step over pairs with a cosine >= `least`; None without a solution."""
    groups, dimension = points.shape
    one, other = np.triu_indices(groups, 1)
    cosine = (points[one] * points[other]).sum(1)
    near = cosine >= least
    one, other, cosine = one[near], other[near], cosine[near]
    pairs, axes = np.arange(len(one)), np.arange(dimension)
    rows = np.concatenate([np.repeat(pairs, dimension)] * 2 + [pairs])
    columns = np.concatenate(
        [
            (one[:, None] * dimension + axes).ravel(),
            (other[:, None] * dimension + axes).ravel(),
            np.full(len(pairs), groups * dimension),
        ]
    )
    values = np.concatenate([points[other].ravel(), points[one].ravel(), -np.ones(len(pairs))])
    closer = coo_array((values, (rows, columns)), shape=(len(pairs), groups * dimension + 1)).tocsr()
    each = np.repeat(np.arange(groups), dimension)
    tangent = coo_array(
        (points.ravel(), (each, np.arange(groups * dimension))), shape=(groups, groups * dimension + 1)
    ).tocsr()
    bounds = [(-radius, radius)] * (groups * dimension) + [(-1.0, 1.0)]
    aim = np.append(np.zeros(groups * dimension), 1.0)
    # interior points: with many equally near pairs, the simplex method takes five times as long
    solved = linprog(
        aim, A_ub=closer, b_ub=-cosine, A_eq=tangent, b_eq=np.zeros(groups), bounds=bounds, method="highs-ipm"
    )
    return solved.x[:-1].reshape(groups, dimension) if solved.status == 0 else None


def loss_floor(groups: int, dimension: int, margin: float, starts: int, seed: int) -> float:
    """Return the smallest pairwise loss of n groups, each in one point, found by descent from random starts.

    This is min over unit vectors of sum_{i != j} max(0, s_ij - alpha) / n^2; 0 where the margin can be met.
    As the loss of an arrangement, it is an upper bound of the true floor.

    Raises:
        UserError: a margin outside [0, 1), or a number below 1.
    """
    check_margin(margin)
    check_count("starts", starts, 1, "the search needs at least one")
    exact = exact_similarity(groups, dimension)
    if exact is not None and exact <= margin:
        return 0.0
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(starts, groups, dimension, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.05)
    different = 1 - torch.eye(groups, dtype=torch.float64)
    least = math.inf
    steps = 3 * ENERGY_STEPS
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * 1e-4 ** (step / steps)
        points = normalise(raw)
        similarity = (1 + points @ points.transpose(1, 2)) / 2
        loss = ((similarity - margin).clamp(min=0) * different).sum((1, 2)) / groups**2
        least = min(least, float(loss.detach().min()))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return least
