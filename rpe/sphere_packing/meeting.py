"""Which margins n groups can meet, and how that is known."""

import functools
from typing import NamedTuple

from rpe.sphere_packing.bound import exact_similarity, similarity_bound
from rpe.sphere_packing.search import best_arrangement, closest_cosines

SEARCHED = 64
"""Groups up to which the smallest margin is searched for; beyond, a search takes minutes."""

SEARCHED_SOON = 24
"""The same where someone waits, as at the start of a training: a search of so many takes a second or two."""

ROUNDING = 1e-6
"""By which a search may miss what it has found."""


class Meeting(NamedTuple):
    """The smallest margin that groups can meet, and how it is known: `exact`, `found` by a search (a smaller one may exist), or a lower `bound`."""

    margin: float
    known: str


@functools.lru_cache(maxsize=4096)
def smallest_margin(
    groups: int, dimension: int, starts: int = 24, seed: int = 0, searched: int = SEARCHED
) -> Meeting:
    """The smallest margin that an arrangement of `groups` points on S^(D-1) meets, that is the smallest largest similarity.

    Args:
        groups: n.
        dimension: D.
        starts, seed: of the search.
        searched: of more groups the lower bound is given.

    Raises:
        UserError: a number below 1.
    """
    exact = exact_similarity(groups, dimension)
    if exact is not None:
        return Meeting(exact, "exact")
    if groups > searched:
        return Meeting(similarity_bound(groups, dimension), "bound")
    return Meeting(
        (1 + float(closest_cosines(best_arrangement(groups, dimension, starts, seed)[None]))) / 2, "found"
    )


def smallest_margin_soon(groups: int, dimension: int) -> Meeting:
    """The same by a short search, for whoever waits."""
    return smallest_margin(groups, dimension, starts=6, searched=SEARCHED_SOON)


def can_meet(groups: int, dimension: int, margin: float) -> bool:
    """Whether `groups` points can have no similarity above the margin, searched for only where no bound decides; of more than `SEARCHED_SOON` groups True means
    that no bound forbids it."""
    if similarity_bound(groups, dimension) > margin + ROUNDING or (
        groups > 2 * dimension and margin <= 0.5
    ):  # Rankin: then some angle is acute
        return False
    return smallest_margin_soon(groups, dimension).margin <= margin + ROUNDING
