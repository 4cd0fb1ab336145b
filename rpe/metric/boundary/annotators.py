"""One prediction after the other against all annotators of an image: what `matching.match` defines, many times faster."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt64
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from rpe.metric.boundary.matching import Neighbours, outlier_cost, reach_of

BLOCK = 200
"""Pixels that one call of the assignment takes: fewer waste its overhead, more its time, which grows faster than the pixels."""


@dataclass
class Matched:
    """`predicted`: the predicted pixels that have a partner with at least one annotator; `found`: how many pixels of each annotator have one."""

    predicted: Bool[np.ndarray, "height width"]
    found: Int64[np.ndarray, " annotator"]


class Annotators:
    """The boundaries of an image's annotators.

    The graph of pairs within reach falls into parts that do not know each other, and from threshold to threshold many of them recur: each
    is solved once. A part is known by a 64-bit sum of random numbers of its pixels (a mistaken identity among a million parts: below 1e-7).
    """

    def __init__(self, truths: list[Bool[np.ndarray, "height width"]]) -> None:
        self.count = len(truths)
        self.size = (truths[0].shape[0], truths[0].shape[1])
        self.reach = reach_of(self.size)
        self.near = Neighbours(truths, self.reach)
        random = np.random.default_rng(0)
        self.truth_keys = random.integers(2**64, size=len(self.near.pixels), dtype=np.uint64)
        self.predicted_keys = random.integers(2**64, size=truths[0].size, dtype=np.uint64)
        self.solved: dict[int, tuple[int, Int64[np.ndarray, " pixel"]]] = {}

    def match(self, predicted: Bool[np.ndarray, "height width"]) -> Matched:
        """The prediction against each annotator."""
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
        return Matched(union.reshape(self.size), found)

    def solve(self, graph: "Graph", keys: list[int]) -> None:
        """Match the parts of the graph that are new."""
        fresh = np.array([key not in self.solved for key in keys])
        if not fresh.any():
            return
        part, column = graph.assign(fresh, outlier_cost(self.reach))
        pixels = graph.columns[column] % (self.size[0] * self.size[1])
        pixels = pixels[np.argsort(part, kind="stable")]
        ends = np.cumsum(np.bincount(part, minlength=len(keys))).tolist()
        for index in np.flatnonzero(fresh).tolist():
            mine = pixels[ends[index - 1] if index else 0 : ends[index]]
            self.solved[keys[index]] = (len(mine), mine)


class Graph:
    """Pairs within reach, cut into parts without a pair between them.

    Args:
        row: the truth's pixel of each pair, ascending.
        column: the predicted pixel of each pair, below `limit`.
        cost: of each pair.
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
        self.parts, part = connected_components(pairs, directed=False)
        self.row_part, self.column_part = part[: len(self.rows)], part[len(self.rows) :]

    def first_rows(self) -> Int64[np.ndarray, " part"]:
        """One of the truth's pixels of each part."""
        rows = np.empty(self.parts, dtype=np.int64)
        rows[self.row_part] = self.rows
        return rows

    def keys(
        self, truth_keys: UInt64[np.ndarray, " truth"], predicted_keys: UInt64[np.ndarray, " predicted"]
    ) -> list[int]:
        """What each part is known by, whatever else the graph holds."""
        keys = np.zeros(self.parts, dtype=np.uint64)
        np.add.at(keys, self.row_part, truth_keys[self.rows])
        np.add.at(keys, self.column_part, predicted_keys[self.columns % len(predicted_keys)])
        return keys.tolist()

    def assign(
        self, fresh: Bool[np.ndarray, " part"], outlier: float
    ) -> tuple[Int64[np.ndarray, " match"], Int64[np.ndarray, " match"]]:
        """The cheapest matching of the `fresh` parts: part and column of each matched pair."""
        counts = [np.bincount(part, minlength=self.parts) for part in (self.row_part, self.column_part)]
        turned = counts[1] < counts[0]
        # in each part the fewer pixels choose (takers), among the others (givers)
        takers = Side(self, fresh, turned, counts, chooses=True)
        givers = Side(self, fresh, turned, counts, chooses=False)
        pair = fresh[self.row_part[self.row]]
        row, column, cost = self.row[pair], self.column[pair] + len(self.rows), self.cost[pair]
        swap = turned[self.row_part[row]]
        taker, giver = takers.rank[np.where(swap, column, row)], givers.rank[np.where(swap, row, column)]
        table = coo_array((cost + 1, (taker, giver)), shape=(takers.total, givers.total)).tocsr()
        chosen = assign_in_blocks(table, takers.ends, givers.ends, outlier + 1)
        taken = np.flatnonzero(chosen >= 0)
        nodes = np.stack([takers.nodes[taken], givers.nodes[chosen[taken]]])
        return takers.part[taken], nodes.max(0) - len(self.rows)


class Side:
    """The takers, or the givers, of the fresh parts, one part after the other; `ends` says where each part ends.

    Nodes count the rows, then the columns.
    """

    def __init__(
        self, graph: Graph, fresh: np.ndarray, turned: np.ndarray, counts: list[np.ndarray], chooses: bool
    ) -> None:
        part = np.r_[graph.row_part, graph.column_part]
        is_column = np.arange(len(part)) >= len(graph.rows)
        member = np.flatnonzero(fresh[part] & ((turned[part] == is_column) == chooses))
        self.nodes = member[np.argsort(part[member], kind="stable")]
        self.part = part[self.nodes].astype(np.int64)
        self.total = len(self.nodes)
        self.rank = np.empty(len(part), dtype=np.int64)
        self.rank[self.nodes] = np.arange(self.total)
        self.ends = np.cumsum(np.bincount(self.part, minlength=graph.parts)[fresh])


def assign_in_blocks(
    table: csr_array, row_ends: np.ndarray, column_ends: np.ndarray, outlier: float
) -> Int64[np.ndarray, " row"]:
    """The column of each row of a block-diagonal table of costs, or -1 where none is cheapest; parts end at `row_ends` and `column_ends`."""
    # the last part that still begins within a block closes it
    closing = np.flatnonzero(np.diff((row_ends - 1) // BLOCK, append=-1))
    bottom, right = row_ends[closing], column_ends[closing]
    top, left = np.r_[0, bottom[:-1]], np.r_[0, right[:-1]]
    rows = bottom - top
    # each row may fall back to a column of its own, behind its block's
    own = np.arange(table.shape[0]) - np.repeat(top - (right - left), rows)
    first = np.repeat(left, table.indptr[bottom] - table.indptr[top])
    costs = np.insert(table.data, table.indptr[1:], outlier)
    columns = np.insert(table.indices - first, table.indptr[1:], own)
    starts = table.indptr + np.arange(table.shape[0] + 1)
    chosen = np.empty(table.shape[0], dtype=np.int64)
    for block in range(len(closing)):
        here = slice(starts[top[block]], starts[bottom[block]])
        width = int(right[block] - left[block])
        shape = (int(rows[block]), width + int(rows[block]))
        one = csr_array(
            (costs[here], columns[here], starts[top[block] : bottom[block] + 1] - here.start), shape=shape
        )
        choice = min_weight_full_bipartite_matching(one)[1]
        chosen[top[block] : bottom[block]] = np.where(choice < width, choice + left[block], -1)
    return chosen
