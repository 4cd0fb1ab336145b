"""Compute precision, recall, ODS, OIS and AP from counted pixels, as BSDS500's official benchmark does."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from rpe.data.thinning import thin
from rpe.metric.boundary.annotators import Annotators

BETWEEN = 100
"""Steps of the interpolation between two thresholds in the search for the best F."""

RECALLS = np.arange(101) / 100
"""The average precision is the mean precision at these recalls."""

Values = Float[np.ndarray, "*shape"]


@dataclass
class BoundaryCounts:
    """Pixel counts of one or several images at each threshold.

    `counts_from_table(counts.table().sum(0))` pools images. `found` of the `truth` pixels, summed over
    annotators, are matched. `matched` of the `predicted` pixels are matched with at least one annotator.
    """

    found: Int64[np.ndarray, "*shape"]
    truth: Int64[np.ndarray, "*shape"]
    matched: Int64[np.ndarray, "*shape"]
    predicted: Int64[np.ndarray, "*shape"]

    def recall(self) -> Values:
        """Return the recall; 0 without true pixels."""
        return self.found / np.maximum(self.truth, 1)

    def precision(self) -> Values:
        """Return the precision; 0 without predicted pixels."""
        return self.matched / np.maximum(self.predicted, 1)

    def table(self) -> Int64[np.ndarray, "*shape 4"]:
        """Return found, truth, matched, predicted along a last axis; `counts_from_table` reverses this."""
        return np.stack([self.found, self.truth, self.matched, self.predicted], axis=-1)


def counts_from_table(table: Int64[np.ndarray, "*shape 4"]) -> BoundaryCounts:
    """Return the counts of a table that `BoundaryCounts.table` made."""
    return BoundaryCounts(*np.moveaxis(table, -1, 0))


def even_thresholds(number: int) -> Float[np.ndarray, " threshold"]:
    """Return `number` thresholds evenly inside (0, 1).

    The official protocol takes 99; fewer lower the metrics.
    """
    return np.linspace(1 / (number + 1), 1 - 1 / (number + 1), number)


def f_measure(recall: Values, precision: Values) -> Values:
    """Return the harmonic mean of recall and precision; 0 where both are 0."""
    total = recall + precision
    return 2 * recall * precision / np.where(total == 0, 1, total)


def count_boundary_pixels(
    prediction: Float[np.ndarray, "height width"],
    annotators: Annotators,
    thresholds: Float[np.ndarray, " threshold"],
    thinning: bool = True,
) -> BoundaryCounts:
    """Threshold a boundary map in [0, 1], thin it, and match it with each annotator, for each threshold.

    `thinning` is that of `count_boundary_masks`.
    """
    masks = [prediction >= threshold for threshold in thresholds]
    return count_boundary_masks(masks, annotators, thinning)


def count_boundary_masks(
    masks: list[Bool[np.ndarray, "height width"]], annotators: Annotators, thinning: bool = True
) -> BoundaryCounts:
    """Count one boundary mask per threshold; equal neighbours in the list are matched once.

    Args:
        masks: of each threshold.
        annotators: of the image.
        thinning: thin each mask first, as the official protocol does. Without, each pixel of a thick boundary
            needs a match of its own: the crispness-emphasized evaluation of MatchED (arXiv 2602.20689).
    """
    rows: list[list[int]] = []
    for index, mask in enumerate(masks):
        if index and np.array_equal(mask, masks[index - 1]):
            rows.append(rows[-1])
            continue
        predicted = thin(mask) if thinning else mask
        matched = annotators.match(predicted)
        rows.append(
            [
                int(matched.found.sum()),
                len(annotators.near.pixels),
                int(matched.predicted.sum()),
                int(predicted.sum()),
            ]
        )
    return counts_from_table(np.array(rows, dtype=np.int64))


def count_between_annotators(boundaries: list[Bool[np.ndarray, "height width"]]) -> BoundaryCounts:
    """Count each annotator's boundaries as a prediction against the others', pooled (human consistency).

    There is a single threshold.
    """
    total = np.zeros((1, 4), dtype=np.int64)
    for index, mine in enumerate(boundaries):
        total += count_boundary_masks(
            [mine], Annotators(boundaries[:index] + boundaries[index + 1 :])
        ).table()
    return counts_from_table(total)


def interpolate_best(
    thresholds: Float[np.ndarray, " threshold"],
    recall: Float[np.ndarray, " threshold"],
    precision: Float[np.ndarray, " threshold"],
) -> tuple[float, float, float, float]:
    """Return threshold, recall, precision and F at the largest F.

    All are interpolated linearly between neighbouring thresholds.
    """
    share = np.linspace(0, 1, BETWEEN)
    fine = [
        np.r_[values[0], np.outer(values[1:], share).ravel() + np.outer(values[:-1], 1 - share).ravel()]
        for values in (thresholds, recall, precision)
    ]
    score = f_measure(fine[1], fine[2])
    best = int(score.argmax())
    return float(fine[0][best]), float(fine[1][best]), float(fine[2][best]), float(score[best])


def average_precision(
    recall: Float[np.ndarray, " threshold"], precision: Float[np.ndarray, " threshold"]
) -> float:
    """Return the mean precision at recalls 0, 0.01 .. 1.

    The precision is interpolated linearly between distinct recalls and 0 beyond them, so a curve that does
    not reach recall 0 or 1 loses there. As in the official program, the 101 samples weigh 0.01 each.
    """
    distinct, first = np.unique(recall, return_index=True)
    if len(distinct) < 2:
        return 0.0
    return float(np.interp(RECALLS, distinct, precision[first], left=0, right=0).sum() * 0.01)


def boundary_metrics(counts: BoundaryCounts, thresholds: Float[np.ndarray, " threshold"]) -> dict[str, float]:
    """Compute `ODS`, `OIS`, `AP`, and the thresholds, recalls and precisions behind them.

    Args:
        counts: of each image at each threshold.
        thresholds: ascending.

    Returns:
        `ODS`: the best F of all images together at one threshold. `OIS`: F of all images together, each at
            its own best threshold. `AP`: `average_precision`. `ODS-threshold`, `ODS-recall`, `ODS-precision`,
            `OIS-recall`, `OIS-precision`.
    """
    table = counts.table()
    pooled = counts_from_table(table.sum(0))
    threshold, recall, precision, ods = interpolate_best(thresholds, pooled.recall(), pooled.precision())
    own_best = f_measure(counts.recall(), counts.precision()).argmax(1)
    chosen = counts_from_table(table[np.arange(len(table)), own_best].sum(0, keepdims=True))
    return {
        "ODS": ods,
        "OIS": float(f_measure(chosen.recall(), chosen.precision())[0]),
        "AP": average_precision(pooled.recall(), pooled.precision()),
        "ODS-threshold": threshold,
        "ODS-recall": recall,
        "ODS-precision": precision,
        "OIS-recall": float(chosen.recall()[0]),
        "OIS-precision": float(chosen.precision()[0]),
    }
