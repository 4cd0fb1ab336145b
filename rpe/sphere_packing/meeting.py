"""Find which margins n groups can meet, and on what evidence."""

import functools
from typing import NamedTuple

from rpe.sphere_packing.bound import exact_similarity, similarity_bound
from rpe.sphere_packing.search import best_arrangement, largest_cosines

SEARCH_LIMIT = 64
"""Groups up to which the smallest margin is searched; for more, a search takes minutes."""

QUICK_SEARCH_LIMIT = 24
"""Search limit where a user waits: a search with so many groups takes a second or two."""

SEARCH_ERROR = 1e-6
"""Error of a search at its optimum."""


class Meeting(NamedTuple):
    """The smallest margin that groups can meet, and its evidence.

    `known` is `exact`, `found` by a search (a smaller margin may exist), or a lower `bound`.
    """

    margin: float
    known: str


@functools.lru_cache(maxsize=4096)
def smallest_margin(
    groups: int, dimension: int, starts: int = 24, seed: int = 0, search_limit: int = SEARCH_LIMIT
) -> Meeting:
    """Return the smallest margin that `groups` points on S^(D-1) can meet.

    This is the smallest possible largest similarity.

    Args:
        groups: n.
        dimension: D.
        starts, seed: of the search.
        search_limit: for more groups the lower bound is returned.

    Raises:
        UserError: a number below 1.
    """
    exact = exact_similarity(groups, dimension)
    if exact is not None:
        return Meeting(exact, "exact")
    if groups > search_limit:
        return Meeting(similarity_bound(groups, dimension), "bound")
    return Meeting(
        (1 + float(largest_cosines(best_arrangement(groups, dimension, starts, seed)[None]))) / 2, "found"
    )


def smallest_margin_soon(groups: int, dimension: int) -> Meeting:
    """Return `smallest_margin` by a short search."""
    return smallest_margin(groups, dimension, starts=6, search_limit=QUICK_SEARCH_LIMIT)


def can_meet(groups: int, dimension: int, margin: float) -> bool:
    """Return whether `groups` points can have all similarities at most the margin.

    Searches only where no bound decides. For more than `QUICK_SEARCH_LIMIT` groups, True means that no bound
    excludes it.
    """
    # Rankin: for n > 2 D some angle is acute
    acute = groups > 2 * dimension and margin <= 0.5
    if acute or similarity_bound(groups, dimension) > margin + SEARCH_ERROR:
        return False
    return smallest_margin_soon(groups, dimension).margin <= margin + SEARCH_ERROR
