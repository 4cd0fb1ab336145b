"""Two boundary maps matched pixel by pixel: one to one, within reach, at minimum cost.

After the official benchmark of BSDS500 (Martin, Fowlkes and Malik, PAMI 2004, appendix B): as many pixels as possible find a
partner, and among such matchings the distances are smallest. The official program approximates this with outlier edges that it draws
by the clock; here the assignment is exact, and which of several cheapest matchings counts is settled by the pixels alone (`preferences`).
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

REACH = 0.0075
"""maxDist: how far apart partners may lie, as a share of the image's diagonal."""

COST_OF_PIXEL = 100
"""Distances count as whole numbers: rint(100 d)."""

OUTLIER = 100
"""A pixel without a partner costs as much as this many distances of the full reach."""


def reach_of(size: tuple[int, int]) -> float:
    """The largest distance between partners in an image of `size` (height, width), in pixels."""
    return REACH * float(np.hypot(*size))


def offsets_within(reach: float) -> tuple[Int64[np.ndarray, "offset 2"], Float[np.ndarray, " offset"]]:
    """All steps (row, column) no longer than `reach`, and what they cost."""
    most = int(reach)
    steps = np.stack(np.meshgrid(*2 * [np.arange(-most, most + 1)], indexing="ij"), axis=-1).reshape(-1, 2)
    distance = np.hypot(*steps.T)
    within = distance <= reach
    return steps[within], np.rint(COST_OF_PIXEL * distance[within])


@cache
def preferences(pixels: int) -> Float[np.ndarray, " pixel"]:
    """What settles a tie: a fixed random extra cost of each predicted pixel, in all less than one unit, so that costs decide first.

    It is the same for all annotators, and however the assignment is computed: equal maps have equal counts.
    """
    return np.random.default_rng(0).random(pixels) / pixels


def outlier_cost(reach: float) -> float:
    """What it costs to leave a pixel without a partner."""
    return float(np.rint(COST_OF_PIXEL * OUTLIER * reach))


def match(
    predicted: Bool[np.ndarray, "height width"], truth: Bool[np.ndarray, "height width"], reach: float
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """The pixels of either map that have a partner in the other: the definition, in one graph; `Annotators` is many times faster."""
    near = Neighbours([truth], reach)
    row, column, cost = near.edges(predicted)
    rows, row = np.unique(row, return_inverse=True)
    columns, column = np.unique(column, return_inverse=True)
    chosen = np.full(len(rows), len(columns))
    if len(rows):
        own = np.arange(len(rows))
        table = coo_array(
            (
                np.r_[cost, np.full(len(rows), outlier_cost(reach))] + 1,
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
    """Which pixels lie within reach of each boundary pixel of some truths.

    `pixels` are the boundary pixels of all truths one after the other (indices into the flattened map), `owners` their truths.
    """

    def __init__(self, truths: list[Bool[np.ndarray, "height width"]], reach: float) -> None:
        self.size = (truths[0].shape[0], truths[0].shape[1])
        self.owners, rows, columns = (part.astype(np.int64) for part in np.nonzero(np.stack(truths)))
        self.pixels = rows * self.size[1] + columns
        steps, self.costs = offsets_within(reach)
        near = (rows[:, None] + steps[:, 0], columns[:, None] + steps[:, 1])
        inside = (near[0] >= 0) & (near[0] < self.size[0]) & (near[1] >= 0) & (near[1] < self.size[1])
        # what lies beyond the image is one more pixel, that is never predicted
        self.table = np.where(inside, near[0] * self.size[1] + near[1], truths[0].size).astype(np.int32)

    def edges(
        self, predicted: Bool[np.ndarray, "height width"]
    ) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
        """Pairs within reach: index into `pixels`, ascending; pixel of the prediction; cost of the pair."""
        place = np.flatnonzero(np.append(predicted, False)[self.table])
        pixel = self.table.ravel()[place].astype(np.int64)
        row, step = np.divmod(place, len(self.costs))
        return row, pixel, self.costs[step] + preferences(predicted.size)[pixel]
