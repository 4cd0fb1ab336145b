"""Regions as BSDS500 measures them: segmentation covering, probabilistic Rand index, variation of information.

After Arbelaez, Maire, Fowlkes and Malik (PAMI 2011, section 3.2): one segmentation at each threshold against all of an image's annotators.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy import ndimage

Segments = Int64[np.ndarray, "height width"]


def hierarchy(
    contours: Float[np.ndarray, "double_height double_width"], thresholds: Float[np.ndarray, " threshold"]
) -> list[Segments]:
    """The segments of an ultrametric contour map in double size `[2 height + 1, 2 width + 1]` at each threshold: what its lines above the
    threshold separate. As in the official program cells that touch at a corner are one; in a true ultrametric map that makes no difference."""
    return [
        ndimage.label(contours <= threshold, np.ones((3, 3)))[0][1::2, 1::2].astype(np.int64) - 1
        for threshold in thresholds
    ]


def dense(segments: Segments) -> Segments:
    """The same segments, numbered 0 .. n-1."""
    return np.unique(segments, return_inverse=True)[1].reshape(segments.shape).astype(np.int64)


def overlaps(one: Segments, other: Segments) -> Int64[np.ndarray, "one other"]:
    """How many pixels each segment of `one` shares with each of `other`; both as `dense` numbers them."""
    shape = (int(one.max()) + 1, int(other.max()) + 1)
    return np.bincount(one.ravel() * shape[1] + other.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def rand_index(shared: Int64[np.ndarray, "one other"]) -> float:
    """The share of pixel pairs that both or neither put together; the mean over annotators is the probabilistic Rand index. NaN for one pixel."""
    pixels = float(shared.sum())
    squares = [float((shared.sum(axis).astype(np.float64) ** 2).sum()) for axis in (0, 1)]
    together = float((shared.astype(np.float64) ** 2).sum())
    pairs = pixels * (pixels - 1) / 2
    return 1 - (sum(squares) / 2 - together) / pairs if pairs else float("nan")


def variation_of_information(shared: Int64[np.ndarray, "one other"]) -> float:
    """Entropy of each given the other, in bits: H(one | other) + H(other | one)."""

    def entropy(counts: np.ndarray) -> float:
        share = counts[counts > 0] / shared.sum()
        return float(-(share * np.log2(share)).sum())

    return 2 * entropy(shared.ravel()) - entropy(shared.sum(0)) - entropy(shared.sum(1))


def best_overlap(shared: Int64[np.ndarray, "one other"]) -> Float[np.ndarray, " other"]:
    """For each segment of the other the largest intersection over union that a segment of the one reaches."""
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    return (shared / union).max(0)


@dataclass
class RegionCounts:
    """One image's sums at each threshold; `best` is what each of the annotators' segments reaches at its own best threshold."""

    covered: Float[np.ndarray, " threshold"]
    pixels: int
    best: float
    rand: Float[np.ndarray, " threshold"]
    information: Float[np.ndarray, " threshold"]


def count_regions(segmentations: list[Segments], annotators: list[Segments]) -> RegionCounts:
    """The segmentations of one image, finest or coarsest first, against its annotators.

    Pixels are counted once for each annotator: `covered` of `pixels` is the covering of the annotators' segments.
    """
    truths = [dense(truth) for truth in annotators]
    sizes = np.concatenate([np.bincount(truth.ravel()) for truth in truths])
    reached = np.zeros(len(sizes))
    covered, rand, information = [], [], []
    for segments in map(dense, segmentations):
        shared = [overlaps(segments, truth) for truth in truths]
        overlap = np.concatenate([best_overlap(one) for one in shared])
        reached = np.maximum(reached, overlap)
        covered.append(float(sizes @ overlap))
        rand.append(float(np.mean([rand_index(one) for one in shared])))
        information.append(float(np.mean([variation_of_information(one) for one in shared])))
    return RegionCounts(
        np.array(covered), int(sizes.sum()), float(sizes @ reached), np.array(rand), np.array(information)
    )


def region_figures(
    counts: list[RegionCounts], thresholds: Float[np.ndarray, " threshold"]
) -> dict[str, float]:
    """Figures of all images: at one threshold for all (ODS) and at each image's own (OIS).

    Returns:
        `covering-ODS`, `covering-OIS` (pixels pooled), `covering-best` (each segment at its own threshold), `PRI-ODS`, `PRI-OIS`, `VI-ODS`,
        `VI-OIS` (means over images; of VI the smallest is best), and `covering-threshold`, `PRI-threshold`, `VI-threshold`.
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
