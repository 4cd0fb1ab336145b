"""Compute BSDS500's region metrics: covering, probabilistic Rand index, variation of information.

After Arbelaez, Maire, Fowlkes and Malik (PAMI 2011, section 3.2): one segmentation per threshold is compared
with all annotators of an image.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy import ndimage

Segments = Int64[np.ndarray, "height width"]


def threshold_contours(
    contours: Float[np.ndarray, "double_height double_width"], thresholds: Float[np.ndarray, " threshold"]
) -> list[Segments]:
    """Return the segments of an ultrametric contour map `[2 height + 1, 2 width + 1]` at each threshold.

    Lines above the threshold separate segments. As in the official program, cells that touch at a corner are
    connected; in a true ultrametric map this makes no difference.
    """
    return [
        ndimage.label(contours <= threshold, np.ones((3, 3)))[0][1::2, 1::2].astype(np.int64) - 1
        for threshold in thresholds
    ]


def renumber_segments(segments: Segments) -> Segments:
    """Renumber segments as 0 .. n-1."""
    return np.unique(segments, return_inverse=True)[1].reshape(segments.shape).astype(np.int64)


def count_overlaps(one: Segments, other: Segments) -> Int64[np.ndarray, "one other"]:
    """Count the pixels that each segment of `one` shares with each of `other`; both numbered 0 .. n-1."""
    shape = (int(one.max()) + 1, int(other.max()) + 1)
    return np.bincount(one.ravel() * shape[1] + other.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def rand_index(shared: Int64[np.ndarray, "one other"]) -> float:
    """Return the share of pixel pairs on which two segmentations agree; NaN for a single pixel.

    Its mean over annotators is the probabilistic Rand index.
    """
    pixels = float(shared.sum())
    squares = [float((shared.sum(axis).astype(np.float64) ** 2).sum()) for axis in (0, 1)]
    together = float((shared.astype(np.float64) ** 2).sum())
    pairs = pixels * (pixels - 1) / 2
    return 1 - (sum(squares) / 2 - together) / pairs if pairs else float("nan")


def variation_of_information(shared: Int64[np.ndarray, "one other"]) -> float:
    """Return H(one | other) + H(other | one) in bits."""

    def entropy(counts: np.ndarray) -> float:
        share = counts[counts > 0] / shared.sum()
        return float(-(share * np.log2(share)).sum())

    return 2 * entropy(shared.ravel()) - entropy(shared.sum(0)) - entropy(shared.sum(1))


def best_segment_ious(shared: Int64[np.ndarray, "one other"]) -> Float[np.ndarray, " other"]:
    """Return for each segment of `other` the largest IoU with a segment of `one`."""
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    return (shared / union).max(0)


@dataclass
class RegionCounts:
    """Sums of one image at each threshold.

    `best` sums over the annotators' segments the IoU at the best threshold of each.
    """

    covered: Float[np.ndarray, " threshold"]
    pixels: int
    best: float
    rand: Float[np.ndarray, " threshold"]
    information: Float[np.ndarray, " threshold"]


def count_regions(segmentations: list[Segments], annotators: list[Segments]) -> RegionCounts:
    """Compare the segmentations of one image, finest or coarsest first, with its annotators.

    Pixels count once per annotator: `covered` of `pixels` is the covering of the annotators' segments.
    """
    truths = [renumber_segments(truth) for truth in annotators]
    sizes = np.concatenate([np.bincount(truth.ravel()) for truth in truths])
    reached = np.zeros(len(sizes))
    covered, rand, information = [], [], []
    for segments in map(renumber_segments, segmentations):
        shared = [count_overlaps(segments, truth) for truth in truths]
        overlap = np.concatenate([best_segment_ious(one) for one in shared])
        reached = np.maximum(reached, overlap)
        covered.append(float(sizes @ overlap))
        rand.append(float(np.mean([rand_index(one) for one in shared])))
        information.append(float(np.mean([variation_of_information(one) for one in shared])))
    return RegionCounts(
        np.array(covered), int(sizes.sum()), float(sizes @ reached), np.array(rand), np.array(information)
    )


def region_metrics(
    counts: list[RegionCounts], thresholds: Float[np.ndarray, " threshold"]
) -> dict[str, float]:
    """Compute the metrics of all images, at one common threshold (ODS) and at each image's own (OIS).

    Returns:
        `covering-ODS`, `covering-OIS` (pixels pooled), `covering-best` (each segment at its own threshold),
            `PRI-ODS`, `PRI-OIS`, `VI-ODS`, `VI-OIS` (means over images; the smallest VI is best), and
            `covering-threshold`, `PRI-threshold`, `VI-threshold`.
    """
    covered = np.stack([one.covered for one in counts])
    pixels = sum(one.pixels for one in counts)
    rand, information = np.stack([one.rand for one in counts]), np.stack([one.information for one in counts])
    pooled, mean_rand, mean_information = covered.sum(0) / pixels, rand.mean(0), information.mean(0)
    return {
        "covering-ODS": float(pooled.max()),
        "covering-OIS": float(covered.max(1).sum() / pixels),
        "covering-best": sum(one.best for one in counts) / pixels,
        "PRI-ODS": float(mean_rand.max()),
        "PRI-OIS": float(rand.max(1).mean()),
        "VI-ODS": float(mean_information.min()),
        "VI-OIS": float(information.min(1).mean()),
        "covering-threshold": float(thresholds[pooled.argmax()]),
        "PRI-threshold": float(thresholds[mean_rand.argmax()]),
        "VI-threshold": float(thresholds[mean_information.argmin()]),
    }
