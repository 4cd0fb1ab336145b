"""From counted pixels to precision, recall, ODS, OIS and AP, as the official benchmark of BSDS500 puts them together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from rpe.data.thinning import thin
from rpe.metric.boundary.annotators import Annotators

BETWEEN = 100
"""Steps at which recall and precision are interpolated between two thresholds when the best F is sought."""

RECALLS = np.arange(101) / 100
"""The average precision is the mean height of the curve over these."""

Values = Float[np.ndarray, "*shape"]


@dataclass
class Counts:
    """Pixels of one or several images at each threshold; `of_table(counts.table().sum(0))` pools several.

    `found` of the `truth` pixels, summed over annotators, have a partner; `matched` of the `predicted` ones have one with some annotator.
    """

    found: Int64[np.ndarray, "*shape"]
    truth: Int64[np.ndarray, "*shape"]
    matched: Int64[np.ndarray, "*shape"]
    predicted: Int64[np.ndarray, "*shape"]

    def recall(self) -> Values:
        """0 where there is no truth."""
        return self.found / np.maximum(self.truth, 1)

    def precision(self) -> Values:
        """0 where nothing is predicted."""
        return self.matched / np.maximum(self.predicted, 1)

    def table(self) -> Int64[np.ndarray, "*shape 4"]:
        """found, truth, matched, predicted along a last axis; `Counts(*table.T)` of one image reads it back."""
        return np.stack([self.found, self.truth, self.matched, self.predicted], axis=-1)


def of_table(table: Int64[np.ndarray, "*shape 4"]) -> Counts:
    """What `Counts.table` wrote."""
    return Counts(*np.moveaxis(table, -1, 0))


def thresholds_of(number: int) -> Float[np.ndarray, " threshold"]:
    """`number` thresholds evenly inside (0, 1): the official protocol takes 99, and fewer lower the figures."""
    return np.linspace(1 / (number + 1), 1 - 1 / (number + 1), number)


def f_measure(recall: Values, precision: Values) -> Values:
    """Their harmonic mean; 0 where both are."""
    total = recall + precision
    return 2 * recall * precision / np.where(total == 0, 1, total)


def count_pixels(
    prediction: Float[np.ndarray, "height width"],
    annotators: Annotators,
    thresholds: Float[np.ndarray, " threshold"],
) -> Counts:
    """A boundary map in [0, 1], thinned at each threshold and matched with each annotator; equal maps are matched once."""
    masks = [prediction >= threshold for threshold in thresholds]
    return count_masks(masks, annotators)


def count_masks(masks: list[Bool[np.ndarray, "height width"]], annotators: Annotators) -> Counts:
    """One mask of boundaries a threshold; equal neighbours in the list are matched once."""
    rows: list[list[int]] = []
    for index, mask in enumerate(masks):
        if index and np.array_equal(mask, masks[index - 1]):
            rows.append(rows[-1])
            continue
        thinned = thin(mask)
        matched = annotators.match(thinned)
        rows.append(
            [
                int(matched.found.sum()),
                len(annotators.near.pixels),
                int(matched.predicted.sum()),
                int(thinned.sum()),
            ]
        )
    return of_table(np.array(rows, dtype=np.int64))


def count_among(boundaries: list[Bool[np.ndarray, "height width"]]) -> Counts:
    """Each annotator's boundaries as a prediction against the others', pooled: human consistency. One threshold."""
    total = np.zeros((1, 4), dtype=np.int64)
    for index, mine in enumerate(boundaries):
        total += count_masks([mine], Annotators(boundaries[:index] + boundaries[index + 1 :])).table()
    return of_table(total)


def best_between(
    thresholds: Float[np.ndarray, " threshold"],
    recall: Float[np.ndarray, " threshold"],
    precision: Float[np.ndarray, " threshold"],
) -> tuple[float, float, float, float]:
    """Threshold, recall, precision and F where F is largest, all three interpolated linearly between neighbouring thresholds."""
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
    """The curve's mean height at recalls 0, 0.01 .. 1, interpolated linearly between distinct recalls, 0 beyond them (so a curve that does not
    reach to recall 0 and 1 loses there). 101 samples are weighed 0.01 each, as the official program does."""
    distinct, first = np.unique(recall, return_index=True)
    if len(distinct) < 2:
        return 0.0
    return float(np.interp(RECALLS, distinct, precision[first], left=0, right=0).sum() * 0.01)


def figures(counts: Counts, thresholds: Float[np.ndarray, " threshold"]) -> dict[str, float]:
    """`ODS`, `OIS`, `AP`, and where they lie.

    Args:
        counts: of each image at each threshold.
        thresholds: ascending.

    Returns:
        ODS: the best F of all images together at one threshold. OIS: F of all images together, each at its own best threshold.
        AP: `average_precision`. `ODS-threshold`, `ODS-recall`, `ODS-precision`, `OIS-recall`, `OIS-precision`.
    """
    table = counts.table()
    pooled = of_table(table.sum(0))
    threshold, recall, precision, ods = best_between(thresholds, pooled.recall(), pooled.precision())
    own_best = f_measure(counts.recall(), counts.precision()).argmax(1)
    chosen = of_table(table[np.arange(len(table)), own_best].sum(0, keepdims=True))
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
