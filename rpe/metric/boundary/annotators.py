"""Match many predictions with all annotators of an image.

The result is what `matching.match_boundaries` defines, computed many times faster.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt64
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from rpe.metric.boundary.matching import Neighbours, matching_distance, outlier_cost

PIXELS_PER_SOLVE = 200
"""Pixels per call of the assignment solver: overhead dominates below, superlinear time above."""


@dataclass
class MatchResult:
    """The predicted pixels matched by at least one annotator, and each annotator's number of matched
    pixels."""

    predicted: Bool[np.ndarray, "height width"]
    found: Int64[np.ndarray, " annotator"]


class Annotators:
    """The boundaries of an image's annotators.

    The graph of pairs within the maximum distance splits into connected components. Many recur from threshold
    to threshold, so each distinct component is solved once and cached. The key of a component is a 64-bit sum
    of random numbers of its pixels (probability of a collision among a million components: below 1e-7).
    """

    def __init__(self, truths: list[Bool[np.ndarray, "height width"]]) -> None:
        self.count = len(truths)
        self.size = (truths[0].shape[0], truths[0].shape[1])
        self.max_distance = matching_distance(self.size)
        self.near = Neighbours(truths, self.max_distance)
        random = np.random.default_rng(0)
        self.truth_keys = random.integers(2**64, size=len(self.near.pixels), dtype=np.uint64)
        self.predicted_keys = random.integers(2**64, size=truths[0].size, dtype=np.uint64)
        self.solved: dict[int, tuple[int, Int64[np.ndarray, " pixel"]]] = {}

    def match(self, predicted: Bool[np.ndarray, "height width"]) -> MatchResult:
        """Match the prediction with each annotator."""
        union, found = np.zeros(predicted.size, dtype=bool), np.zeros(self.count, dtype=np.int64)
        row, pixel, cost = self.near.edges(predicted)
        if len(row):
            graph = Graph(
                row, self.near.owners[row] * predicted.size + pixel, cost, self.count * predicted.size
            )
            keys = graph.keys(self.truth_keys, self.predicted_keys)
            self.solve(graph, keys)
            for key, owner in zip(keys, self.near.owners[graph.first_rows()].tolist(), strict=True):
                number, pixels = self.solved[key]
                found[owner] += number
                union[pixels] = True
        return MatchResult(union.reshape(self.size), found)

    def solve(self, graph: "Graph", keys: list[int]) -> None:
        """Match the components of the graph that are not cached yet."""
        fresh = np.array([key not in self.solved for key in keys])
        if not fresh.any():
            return
        component, column = graph.assign(fresh, outlier_cost(self.max_distance))
        pixels = graph.columns[column] % (self.size[0] * self.size[1])
        pixels = pixels[np.argsort(component, kind="stable")]
        ends = np.cumsum(np.bincount(component, minlength=len(keys))).tolist()
        for index in np.flatnonzero(fresh).tolist():
            mine = pixels[ends[index - 1] if index else 0 : ends[index]]
            self.solved[keys[index]] = (len(mine), mine)


class Graph:
    """Pairs within the maximum distance, split into connected components.

    Args:
        row: the truth's pixel of each pair, ascending.
        column: the predicted pixel of each pair, below `limit`.
        cost: of each pair.
        limit: upper bound of the columns.
    """

    def __init__(
        self,
        row: Int64[np.ndarray, " pair"],
        column: Int64[np.ndarray, " pair"],
        cost: Float[np.ndarray, " pair"],
        limit: int,
    ) -> None:
        first = np.r_[True, row[1:] != row[:-1]]
        self.rows, self.row = row[first], np.cumsum(first) - 1
        present = np.zeros(limit, dtype=bool)
        present[column] = True
        self.columns = np.flatnonzero(present)
        rank = np.empty(limit, dtype=np.int64)
        rank[self.columns] = np.arange(len(self.columns))
        self.column, self.cost = rank[column], cost
        nodes = len(self.rows) + len(self.columns)
        starts = np.r_[np.flatnonzero(first), np.full(len(self.columns) + 1, len(row))]
        pairs = csr_array(
            (np.ones(len(row), dtype=np.int8), len(self.rows) + self.column, starts), shape=(nodes, nodes)
        )
        self.components, component = connected_components(pairs, directed=False)
        self.row_component, self.column_component = component[: len(self.rows)], component[len(self.rows) :]

    def first_rows(self) -> Int64[np.ndarray, " component"]:
        """Return one of the truth's pixels of each component."""
        rows = np.empty(self.components, dtype=np.int64)
        rows[self.row_component] = self.rows
        return rows

    def keys(
        self, truth_keys: UInt64[np.ndarray, " truth"], predicted_keys: UInt64[np.ndarray, " predicted"]
    ) -> list[int]:
        """Return the cache key of each component, independent of the rest of the graph."""
        keys = np.zeros(self.components, dtype=np.uint64)
        np.add.at(keys, self.row_component, truth_keys[self.rows])
        np.add.at(keys, self.column_component, predicted_keys[self.columns % len(predicted_keys)])
        return keys.tolist()

    def assign(
        self, fresh: Bool[np.ndarray, " component"], outlier: float
    ) -> tuple[Int64[np.ndarray, " match"], Int64[np.ndarray, " match"]]:
        """Return component and column of each pair of the cheapest matching of the `fresh` components."""
        counts = [
            np.bincount(component, minlength=self.components)
            for component in (self.row_component, self.column_component)
        ]
        turned = counts[1] < counts[0]
        # the smaller side of each component is left (rows), the other right (columns)
        left = GraphSide(self, fresh, turned, counts, is_left=True)
        right = GraphSide(self, fresh, turned, counts, is_left=False)
        pair = fresh[self.row_component[self.row]]
        row, column, cost = self.row[pair], self.column[pair] + len(self.rows), self.cost[pair]
        swap = turned[self.row_component[row]]
        left_index, right_index = (
            left.rank[np.where(swap, column, row)],
            right.rank[np.where(swap, row, column)],
        )
        table = coo_array((cost + 1, (left_index, right_index)), shape=(left.total, right.total)).tocsr()
        chosen = assign_in_blocks(table, left.ends, right.ends, outlier + 1)
        taken = np.flatnonzero(chosen >= 0)
        nodes = np.stack([left.nodes[taken], right.nodes[chosen[taken]]])
        return left.component[taken], nodes.max(0) - len(self.rows)


class GraphSide:
    """The nodes on the left or right side of the fresh components, one component after the other.

    Nodes number the rows, then the columns. `ends` tells where each component ends.
    """

    def __init__(
        self, graph: Graph, fresh: np.ndarray, turned: np.ndarray, counts: list[np.ndarray], is_left: bool
    ) -> None:
        component = np.r_[graph.row_component, graph.column_component]
        is_column = np.arange(len(component)) >= len(graph.rows)
        member = np.flatnonzero(fresh[component] & ((turned[component] == is_column) == is_left))
        self.nodes = member[np.argsort(component[member], kind="stable")]
        self.component = component[self.nodes].astype(np.int64)
        self.total = len(self.nodes)
        self.rank = np.empty(len(component), dtype=np.int64)
        self.rank[self.nodes] = np.arange(self.total)
        self.ends = np.cumsum(np.bincount(self.component, minlength=graph.components)[fresh])


def assign_in_blocks(
    table: csr_array, row_ends: np.ndarray, column_ends: np.ndarray, outlier: float
) -> Int64[np.ndarray, " row"]:
    """Return the cheapest column of each row of a block-diagonal cost table; -1 where no match is cheaper.

    Components end at `row_ends` and `column_ends`.
    """
    # a block ends with the last component that begins in it
    closing = np.flatnonzero(np.diff((row_ends - 1) // PIXELS_PER_SOLVE, append=-1))
    row_end, column_end = row_ends[closing], column_ends[closing]
    row_start, column_start = np.r_[0, row_end[:-1]], np.r_[0, column_end[:-1]]
    rows = row_end - row_start
    # an extra column per row, behind its block's, means that the row stays unmatched
    own = np.arange(table.shape[0]) - np.repeat(row_start - (column_end - column_start), rows)
    first = np.repeat(column_start, table.indptr[row_end] - table.indptr[row_start])
    costs = np.insert(table.data, table.indptr[1:], outlier)
    columns = np.insert(table.indices - first, table.indptr[1:], own)
    starts = table.indptr + np.arange(table.shape[0] + 1)
    chosen = np.empty(table.shape[0], dtype=np.int64)
    for block in range(len(closing)):
        here = slice(starts[row_start[block]], starts[row_end[block]])
        width = int(column_end[block] - column_start[block])
        shape = (int(rows[block]), width + int(rows[block]))
        one = csr_array(
            (costs[here], columns[here], starts[row_start[block] : row_end[block] + 1] - here.start),
            shape=shape,
        )
        choice = min_weight_full_bipartite_matching(one)[1]
        chosen[row_start[block] : row_end[block]] = np.where(choice < width, choice + column_start[block], -1)
    return chosen
