"""Evaluate boundary detection as BSDS500 does: ODS, OIS and AP.

`count_boundary_pixels(prediction, Annotators(boundaries), even_thresholds(99))` counts one image.
`counts_from_table(np.stack([one.table() for one in counts]))` pools several. `boundary_metrics(counts,
thresholds)` computes the metrics. `score` does all of this for a folder.
"""

from rpe.data.thinning import thin
from rpe.metric.boundary.annotators import Annotators, MatchResult
from rpe.metric.boundary.curve import (
    BoundaryCounts,
    average_precision,
    boundary_metrics,
    count_between_annotators,
    count_boundary_masks,
    count_boundary_pixels,
    counts_from_table,
    even_thresholds,
    f_measure,
    interpolate_best,
)
from rpe.metric.boundary.matching import match_boundaries, matching_distance

__all__ = [
    "Annotators",
    "BoundaryCounts",
    "MatchResult",
    "average_precision",
    "boundary_metrics",
    "count_between_annotators",
    "count_boundary_masks",
    "count_boundary_pixels",
    "counts_from_table",
    "even_thresholds",
    "f_measure",
    "interpolate_best",
    "match_boundaries",
    "matching_distance",
    "thin",
]
