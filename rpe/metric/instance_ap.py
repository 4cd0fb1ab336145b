"""Compute metrics of label maps with one label per instance.

AP = TP / (TP + FP + FN), panoptic quality, and both AP and recall of the objects that touch another one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from rpe.metric.void import remove_void
from rpe.rle import compress, decode_mask, mask_area
from rpe.structures import BACKGROUND, VOID, Proposals

THRESHOLDS = np.round(np.linspace(0.5, 0.9, 9), 2)
"""IoU thresholds, rounded to the exact decimals.

`linspace` gives 0.8500000000000001, which an IoU of 17/20 misses. Average recall keeps pycocotools' own
`linspace(0.5, 0.95, 10)`, in which 0.85 is exact and 0.9 is 0.8999999999999999.
"""

TOUCHING_GAP = 2
"""Objects touch where their boxes are less than this many pixels apart.

So at most one pixel in each direction lies between the boxes.
"""

Labels = Int64[np.ndarray, "height width"]

LabelPair = tuple[Int64[np.ndarray, "_ _"], Int64[np.ndarray, "_ _"]]
"""Truth and prediction of one image; images differ in size."""


@dataclass
class Overlaps:
    """All pairs of a true and a predicted object that share a pixel.

    Objects are numbered from 0 in the order of their labels.
    """

    truths: Int64[np.ndarray, " pair"]
    predictions: Int64[np.ndarray, " pair"]
    shared: Int64[np.ndarray, " pair"]
    ious: Float[np.ndarray, " pair"]
    truth_areas: Int64[np.ndarray, " truth"]
    prediction_areas: Int64[np.ndarray, " prediction"]

    @property
    def truth_count(self) -> int:
        """Return the number of objects."""
        return len(self.truth_areas)

    @property
    def prediction_count(self) -> int:
        """Return the number of masks."""
        return len(self.prediction_areas)


@dataclass
class MatchCounts:
    """Counts of one image at each threshold; `iou` is the sum over the true positives."""

    tp: Float[np.ndarray, " threshold"]
    fp: Float[np.ndarray, " threshold"]
    fn: Float[np.ndarray, " threshold"]
    iou: Float[np.ndarray, " threshold"]

    def __add__(self, other: "MatchCounts") -> "MatchCounts":
        return MatchCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou + other.iou)

    def average_precision(self) -> Float[np.ndarray, " threshold"]:
        """Return TP / (TP + FP + FN) (Kaggle's Data Science Bowl 2018, StarDist).

        NaN where there is neither object nor prediction.
        """
        return ratio(self.tp, self.tp + self.fp + self.fn)

    def recall(self) -> Float[np.ndarray, " threshold"]:
        """Return TP / (TP + FN); NaN without objects."""
        return ratio(self.tp, self.tp + self.fn)

    def panoptic(self) -> tuple[float, float, float]:
        """Return PQ = SQ x RQ, SQ and RQ at the first threshold (Kirillov et al., 2019).

        SQ is the mean IoU of the matches (NaN without matches), RQ is F1.
        """
        recognised = ratio(self.tp, self.tp + (self.fp + self.fn) / 2)
        quality = ratio(self.iou, self.tp + (self.fp + self.fn) / 2)
        return float(quality[0]), float(ratio(self.iou, self.tp)[0]), float(recognised[0])


def ratio(
    part: Float[np.ndarray, " threshold"], whole: Float[np.ndarray, " threshold"]
) -> Float[np.ndarray, " threshold"]:
    """Return part / whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def compute_overlaps(truth: Labels, prediction: Labels) -> Overlaps:
    """Return pairs, shared pixels and IoU of all overlapping objects.

    Pixels that are void in the truth are ignored, so a prediction on void only does not count.
    """
    known = truth != VOID
    _, true_areas, truth = number_objects(truth[known])
    labels, areas, prediction = number_objects(prediction[known])
    on_both = (truth >= 0) & (prediction >= 0)
    codes, shared = np.unique(truth[on_both] * len(labels) + prediction[on_both], return_counts=True)
    truths, predictions = np.divmod(codes, max(1, len(labels)))
    union = true_areas[truths] + areas[predictions] - shared
    return Overlaps(truths, predictions, shared, shared / union, true_areas, areas)


def number_objects(
    labels: Int64[np.ndarray, " pixel"],
) -> tuple[Int64[np.ndarray, " object"], Int64[np.ndarray, " object"], Int64[np.ndarray, " pixel"]]:
    """Return labels and areas of all objects, and the pixels with object numbers from 0; background is -1."""
    areas = np.bincount(labels.clip(min=BACKGROUND))
    areas[:1] = 0
    present = np.nonzero(areas)[0]
    number = np.full(len(areas), -1)
    number[present] = np.arange(len(present))
    return present, areas[present], number[labels.clip(min=BACKGROUND)] if len(areas) else labels


def match_labels(overlaps: Overlaps, threshold: float) -> Int64[np.ndarray, " match"]:
    """Return the pairs with an IoU of at least `threshold` >= 0.5, matched one to one.

    Objects of a label map are disjoint. Two pairs of one object are therefore only possible at exactly 0.5:
    the partners are two halves of the object and overlap no other object, so either may be chosen. The first
    is chosen, and the number of pairs equals that of an optimal assignment.

    Raises:
        ValueError: the threshold is below 0.5, where matches are not unique.
    """
    if threshold < 0.5:
        raise ValueError(f"threshold must be >= 0.5, got {threshold}. Below, matches are not unique.")
    pairs = np.nonzero(overlaps.ious >= threshold)[0]
    pairs = pairs[np.unique(overlaps.truths[pairs], return_index=True)[1]]
    return pairs[np.unique(overlaps.predictions[pairs], return_index=True)[1]]


def count_matches(
    overlaps: Overlaps, truths: Bool[np.ndarray, " truth"], predictions: Bool[np.ndarray, " prediction"]
) -> MatchCounts:
    """Count matches at each of `THRESHOLDS`.

    Args:
        overlaps: of one image.
        truths: the true objects that count.
        predictions: the predictions that count as false positives where unmatched.
    """
    rows = []
    for threshold in THRESHOLDS:
        pairs = match_labels(overlaps, float(threshold))
        mine = pairs[truths[overlaps.truths[pairs]]]
        unmatched = predictions.copy()
        unmatched[overlaps.predictions[pairs]] = False
        rows.append((len(mine), unmatched.sum(), truths.sum() - len(mine), overlaps.ious[mine].sum()))
    return MatchCounts(*np.array(rows, dtype=np.float64).T)


def count_image(truth: Labels, prediction: Labels) -> tuple[MatchCounts, MatchCounts]:
    """Return the counts of an image, and the counts of its touching objects.

    For the latter, an unmatched prediction is a false positive where the true object with which it shares
    most pixels touches another one.
    """
    overlaps = compute_overlaps(truth, prediction)
    close = find_touching_labels(truth)
    most = np.full(overlaps.prediction_count, -1)
    order = np.argsort(overlaps.shared, kind="stable")
    most[overlaps.predictions[order]] = overlaps.truths[order]
    on_close = np.append(close, False)[most]
    everything = count_matches(
        overlaps, np.ones(overlaps.truth_count, dtype=bool), np.ones(overlaps.prediction_count, dtype=bool)
    )
    return everything, count_matches(overlaps, close, on_close)


def find_touching_labels(labels: Labels) -> Bool[np.ndarray, " object"]:
    """Return which objects, in the order of their labels, have a box within `TOUCHING_GAP` of another box.

    Boxes with g and h empty pixels between them in the two directions have max(g, h) < 2 exactly when
    sqrt(g^2 + h^2) < 2.
    """
    number = number_objects(labels.ravel())[2].reshape(labels.shape)
    rows, columns = np.nonzero(number >= 0)
    which = number[rows, columns]
    count = int(which.max(initial=-1)) + 1
    low, high = np.full((2, count), max(labels.shape)), np.full((2, count), -1)
    for axis, indices in enumerate((rows, columns)):
        np.minimum.at(low[axis], which, indices)
        np.maximum.at(high[axis], which, indices + 1)
    gap = np.maximum(low[:, :, None] - high[:, None], low[:, None] - high[:, :, None]).max(0)
    np.fill_diagonal(gap, TOUCHING_GAP)
    close: Bool[np.ndarray, " object"] = (gap < TOUCHING_GAP).any(1)
    return close


def instance_metrics(pairs: Iterable[LabelPair]) -> dict[str, float]:
    """Compute metrics from the (truth, prediction) label maps of all images.

    Returns:
        `AP50` .. `AP90`, the mean over the images. `PQ SQ RQ`, the same at IoU 0.5. `AP50-touching` and
            `recall50-touching`. Each also with `-pooled`, from the counts of all images together. An image
            without objects and predictions of the kind is left out of a mean.
    """
    images = [count_image(truth, prediction) for truth, prediction in pairs]
    if not images:
        return {}
    rows = [metrics_of_counts(*counts) for counts in images]
    pooled = metrics_of_counts(
        sum((counts[0] for counts in images[1:]), images[0][0]),
        sum((counts[1] for counts in images[1:]), images[0][1]),
    )
    metrics = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        if not np.isnan(values).all():
            metrics[name] = float(np.nanmean(values))
    return metrics | {f"{name}-pooled": value for name, value in pooled.items() if not np.isnan(value)}


def metrics_of_counts(everything: MatchCounts, close: MatchCounts) -> dict[str, float]:
    """Return the metrics of one image's counts, or of the sum over several images; NaN where undefined."""
    metrics = {
        f"AP{round(100 * threshold)}": float(value)
        for threshold, value in zip(THRESHOLDS, everything.average_precision(), strict=True)
    }
    metrics |= dict(zip(("PQ", "SQ", "RQ"), everything.panoptic(), strict=True))
    return metrics | {
        "AP50-touching": float(close.average_precision()[0]),
        "recall50-touching": float(close.recall()[0]),
    }


def label_maps(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], select: Callable[[Proposals], Labels]
) -> Iterator[LabelPair]:
    """Yield the label maps (truth, prediction) of all images of the truth at original size.

    Args:
        truth: in COCO format. Crowds become void; of overlapping objects the one of fewer pixels is on top,
            as in training.
        results: rows of a COCO results file that has been checked. Void is removed from the masks before
            `select`.
        select: turns ranked masks into one label map, for example `select_instances` with its threshold.
    """
    annotations: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    rows: dict[int, list[int]] = {image["id"]: [] for image in truth["images"]}
    results = remove_void(truth, results)
    for row, result in enumerate(results):
        rows[result["image_id"]].append(row)
    for image in truth["images"]:
        size = (int(image["height"]), int(image["width"]))
        ranked = sorted((results[row] for row in rows[image["id"]]), key=lambda row: -row["score"])
        scores = np.array([row["score"] for row in ranked], dtype=np.float64)
        yield (
            true_labels(annotations[image["id"]], size),
            select(Proposals([compress(row["segmentation"], size) for row in ranked], scores, size)),
        )


def true_labels(annotations: list[dict[str, Any]], size: tuple[int, int]) -> Labels:
    """Return one image's annotations as a label map."""
    labels = np.full(size, BACKGROUND, dtype=np.int64)
    for number, annotation in enumerate(painting_order(annotations, size), start=1):
        labels[decode_mask(compress(annotation["segmentation"], size))] = (
            VOID if annotation.get("iscrowd", 0) else number
        )
    return labels


def painting_order(annotations: list[dict[str, Any]], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return crowds first, then objects by descending number of pixels, so that smaller objects lie on top.

    The field `area` is not used, as it may be a placeholder.
    """
    pixels = [mask_area(compress(annotation["segmentation"], size)) for annotation in annotations]
    order = sorted(
        range(len(annotations)), key=lambda index: (not annotations[index].get("iscrowd", 0), -pixels[index])
    )
    return [annotations[index] for index in order]
