"""Match two boundary maps pixel by pixel: one to one, within a maximum distance, at minimum cost.

After the official benchmark of BSDS500 (Martin, Fowlkes and Malik, PAMI 2004, appendix B): as many pixels as
possible are matched, and among such matchings the sum of distances is smallest. The official program
approximates this with outlier edges drawn at random by the clock. Here the assignment is exact, and
`tie_break_costs` selects one of several cheapest matchings by the pixels alone.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

MAX_DISTANCE_SHARE = 0.0075
"""maxDist: the largest distance of matched pixels, as a share of the image's diagonal."""

COST_OF_PIXEL = 100
"""Distances are rounded to integers: rint(100 d)."""

OUTLIER = 100
"""The cost of an unmatched pixel, in maximum distances."""


def matching_distance(size: tuple[int, int]) -> float:
    """Return the largest distance in pixels of matched pixels in an image of `size` (height, width)."""
    return MAX_DISTANCE_SHARE * float(np.hypot(*size))


def list_steps(max_distance: float) -> tuple[Int64[np.ndarray, "offset 2"], Float[np.ndarray, " offset"]]:
    """Return all steps (row, column) no longer than `max_distance`, and their costs."""
    most = int(max_distance)
    steps = np.stack(np.meshgrid(*2 * [np.arange(-most, most + 1)], indexing="ij"), axis=-1).reshape(-1, 2)
    distance = np.hypot(*steps.T)
    near = distance <= max_distance
    return steps[near], np.rint(COST_OF_PIXEL * distance[near])


@cache
def tie_break_costs(pixels: int) -> Float[np.ndarray, " pixel"]:
    """Return a fixed random extra cost of each predicted pixel, less than one unit in total.

    It selects one of equally cheap matchings, the same for all annotators and solvers: equal maps have equal
    counts.
    """
    return np.random.default_rng(0).random(pixels) / pixels


def outlier_cost(max_distance: float) -> float:
    """Return the cost of leaving a pixel unmatched."""
    return float(np.rint(COST_OF_PIXEL * OUTLIER * max_distance))


def match_boundaries(
    predicted: Bool[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"], max_distance: float
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Return the matched pixels of either map.

    This is the definition, solved as one graph; `Annotators` is many times faster.
    """
    near = Neighbours([truth], max_distance)
    row, column, cost = near.edges(predicted)
    rows, row = np.unique(row, return_inverse=True)
    columns, column = np.unique(column, return_inverse=True)
    chosen = np.full(len(rows), len(columns))
    if len(rows):
        own = np.arange(len(rows))
        table = coo_array(
            (
                np.r_[cost, np.full(len(rows), outlier_cost(max_distance))] + 1,
                (np.r_[row, own], np.r_[column, len(columns) + own]),
            ),
            shape=(len(rows), len(columns) + len(rows)),
        )
        chosen = min_weight_full_bipartite_matching(table.tocsr())[1]
    found = chosen < len(columns)
    matched = np.zeros((2, truth.size), dtype=bool)
    matched[0, columns[chosen[found]]] = True
    matched[1, near.pixels[rows[found]]] = True
    return matched[0].reshape(truth.shape), matched[1].reshape(truth.shape)


class Neighbours:
    """The pixels within the maximum distance of each boundary pixel of some truths.

    `pixels` are the boundary pixels of all truths one after the other (indices into the flattened map),
    `owners` their truths.
    """

    def __init__(self, truths: list[Bool[np.ndarray, "height width"]], max_distance: float) -> None:
        self.size = (truths[0].shape[0], truths[0].shape[1])
        self.owners, rows, columns = (part.astype(np.int64) for part in np.nonzero(np.stack(truths)))
        self.pixels = rows * self.size[1] + columns
        steps, self.costs = list_steps(max_distance)
        near = (rows[:, None] + steps[:, 0], columns[:, None] + steps[:, 1])
        inside = (near[0] >= 0) & (near[0] < self.size[0]) & (near[1] >= 0) & (near[1] < self.size[1])
        # positions outside the image share one extra index, which is never predicted
        self.table = np.where(inside, near[0] * self.size[1] + near[1], truths[0].size).astype(np.int32)

    def edges(
        self, predicted: Bool[np.ndarray, "height width"]
    ) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
        """Return the pairs within the maximum distance.

        Returns:
            Index into `pixels` (ascending), predicted pixel, cost.
        """
        index = np.flatnonzero(np.append(predicted, False)[self.table])
        pixel = self.table.ravel()[index].astype(np.int64)
        row, step = np.divmod(index, len(self.costs))
        return row, pixel, self.costs[step] + tie_break_costs(predicted.size)[pixel]
