"""Compare the scores of masks with their IoU, and fit the map from score to expected IoU."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from rpe.metric.void import remove_void
from rpe.rle import compress, mask_area, pairwise_iou
from rpe.run_files import rows_to_csv
from rpe.structures import UserError

BINS = 10
"""Bins of equal width, as in most papers on calibration."""

ABSORBED = 0.5
"""Share of a mask inside a crowd from which the mask is ignored; COCO's first IoU threshold."""


class Reliability(NamedTuple):
    """Masks binned by score: edges, and number of masks, mean score and mean IoU of each bin.

    The bins have equal width over [0, 1], or over the range of the scores where that is wider. Means of empty
    bins are NaN.
    """

    edges: Float[np.ndarray, " edge"]
    masks: Int64[np.ndarray, " bin"]
    score: Float[np.ndarray, " bin"]
    iou: Float[np.ndarray, " bin"]

    def calibration_error(self) -> float | None:
        """Return the expected calibration error (Guo et al., 2017).

        This is the mean of |mean score - mean IoU| over all masks. None without masks, or where scores
        outside [0, 1] cannot be expected IoUs.
        """
        if not self.masks.sum() or self.edges[0] < 0 or self.edges[-1] > 1:
            return None
        filled = self.masks > 0
        gaps = np.abs(self.score - self.iou)[filled]
        return float(np.average(gaps, weights=self.masks[filled]))

    def as_csv(self) -> str:
        """Return the bins as CSV text, one row per bin."""
        bins = zip(self.edges[:-1], self.edges[1:], self.masks, self.score, self.iou, strict=True)
        rows = (["" if np.isnan(value) else f"{value:.6g}" for value in row] for row in bins)
        return rows_to_csv([["from", "to", "masks", "mean_score", "mean_iou"], *rows])


def mask_ious(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> Float[np.ndarray, " result"]:
    """Return each mask's best IoU with an object of its image, whatever the category.

    NaN for masks that cannot be judged: masks of void pixels only, and unmatched masks that lie half or more
    inside a crowd.

    Args:
        truth: in COCO format.
        results: rows of a COCO results file that `average_recall` has accepted.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    objects: dict[tuple[int, bool], list[Any]] = {}
    for annotation in truth["annotations"]:
        image_id = annotation["image_id"]
        key = image_id, bool(annotation.get("iscrowd", 0))
        objects.setdefault(key, []).append(compress(annotation["segmentation"], sizes[image_id]))
    rows: dict[int, list[int]] = {}
    cleared = remove_void(truth, results)
    for row, result in enumerate(cleared):
        rows.setdefault(result["image_id"], []).append(row)
    ious = np.zeros(len(results))
    for image_id, mine in rows.items():
        masks = [compress(cleared[row]["segmentation"], sizes[image_id]) for row in mine]
        best, inside = (
            pairwise_iou(masks, objects.get((image_id, crowd), []), crowd).max(1, initial=0)
            for crowd in (False, True)
        )
        empty = np.array([mask_area(mask) == 0 for mask in masks])
        ignored = ((inside >= ABSORBED) & (best < ABSORBED)) | empty
        ious[mine] = np.where(ignored, np.nan, best)
    return ious


def scored_ious(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> Float[np.ndarray, "2 mask"]:
    """Return score and IoU of all masks whose IoU is defined; see `mask_ious`."""
    ious = mask_ious(truth, results)
    scores = np.array([result["score"] for result in results], dtype=np.float64)
    return np.stack([scores, ious])[:, ~np.isnan(ious)]


def reliability(scores: Float[np.ndarray, " mask"], ious: Float[np.ndarray, " mask"]) -> Reliability:
    """Bin masks by score and return the mean score and mean IoU of each bin."""
    edges = np.linspace(min(0.0, scores.min(initial=0)), max(1.0, scores.max(initial=1)), BINS + 1)
    bins = np.searchsorted(edges[1:-1], scores, side="right")
    masks = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, values, BINS) for values in (scores, ious)]
    means = [np.divide(total, masks, out=np.full(BINS, np.nan), where=masks > 0) for total in sums]
    return Reliability(edges, masks, *means)


def fit_calibration(
    scores: Float[np.ndarray, " mask"], ious: Float[np.ndarray, " mask"]
) -> Float[np.ndarray, "2 knot"]:
    """Return the knots (score, IoU) of the non-decreasing piecewise linear map with the least squared error.

    Raises:
        UserError: fewer than two different scores.
    """
    if len(np.unique(scores)) < 2:
        raise UserError(
            f"scores of masks must have 2 or more different values, got {len(np.unique(scores))}. "
            "Calibrate on more images."
        )
    from sklearn.isotonic import IsotonicRegression  # a second to import, and a prediction needs none

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, ious)
    return np.stack([fitted.X_thresholds_, fitted.y_thresholds_])
