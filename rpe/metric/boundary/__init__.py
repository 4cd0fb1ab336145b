"""Boundary detection as BSDS500 measures it: ODS, OIS and AP.

`count_pixels(prediction, Annotators(boundaries), thresholds_of(99))` counts one image, `of_table(np.stack([one.table() for one in counts]))` puts several
together, `figures(counts, thresholds)` says what they are worth; `score` does all of it for a folder.
"""

from rpe.data.thinning import thin
from rpe.metric.boundary.annotators import Annotators, Matched
from rpe.metric.boundary.curve import (
    Counts,
    average_precision,
    best_between,
    count_among,
    count_masks,
    count_pixels,
    f_measure,
    figures,
    of_table,
    thresholds_of,
)
from rpe.metric.boundary.matching import match, reach_of

__all__ = [
    "Annotators",
    "Counts",
    "Matched",
    "average_precision",
    "best_between",
    "count_among",
    "count_masks",
    "count_pixels",
    "f_measure",
    "figures",
    "match",
    "of_table",
    "reach_of",
    "thin",
    "thresholds_of",
]
