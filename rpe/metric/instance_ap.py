"""Instances as one label map an image: AP = TP / (TP + FP + FN), panoptic quality, and the objects that touch another one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from pycocotools import mask as coco_mask

from rpe.metric.run_length import compressed
from rpe.metric.void import without_void
from rpe.structures import BACKGROUND, VOID, Proposals, decode_mask

THRESHOLDS = np.round(np.linspace(0.5, 0.9, 9), 2)
"""The decimals themselves: `linspace` gives 0.8500000000000001, which an IoU of 17/20 misses. Recall keeps COCO's own, pycocotools' `linspace(0.5, 0.95,
10)`, in which 0.85 is exact and 0.9 is 0.8999999999999999."""

TOUCHING_GAP = 2
"""Pixels: objects whose boxes are closer to another object's box touch, so that at most one pixel in each direction lies between the boxes."""

Labels = Int64[np.ndarray, "height width"]

LabelPair = tuple[Int64[np.ndarray, "_ _"], Int64[np.ndarray, "_ _"]]
"""Truth and prediction of one image; images differ in size."""


@dataclass
class Overlaps:
    """All pairs of a true and a predicted object that share a pixel; objects are numbered from 0 in the order of their labels."""

    truths: Int64[np.ndarray, " pair"]
    predictions: Int64[np.ndarray, " pair"]
    shared: Int64[np.ndarray, " pair"]
    ious: Float[np.ndarray, " pair"]
    truth_areas: Int64[np.ndarray, " truth"]
    prediction_areas: Int64[np.ndarray, " prediction"]

    @property
    def truth_count(self) -> int:
        return len(self.truth_areas)

    @property
    def prediction_count(self) -> int:
        return len(self.prediction_areas)


@dataclass
class Counts:
    """What one image adds at each threshold; `iou` is the sum over the true positives."""

    tp: Float[np.ndarray, " threshold"]
    fp: Float[np.ndarray, " threshold"]
    fn: Float[np.ndarray, " threshold"]
    iou: Float[np.ndarray, " threshold"]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou + other.iou)

    def average_precision(self) -> Float[np.ndarray, " threshold"]:
        """TP / (TP + FP + FN) (Kaggle's Data Science Bowl 2018, StarDist); NaN where there is neither object nor prediction."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    def recall(self) -> Float[np.ndarray, " threshold"]:
        """TP / (TP + FN); NaN where there is no object."""
        return ratio(self.tp, self.tp + self.fn)

    def panoptic(self) -> tuple[float, float, float]:
        """PQ = SQ x RQ, SQ, the mean IoU of the matched (NaN without), and RQ, F1 (Kirillov et al., 2019), at the first threshold."""
        recognised = ratio(self.tp, self.tp + (self.fp + self.fn) / 2)
        quality = ratio(self.iou, self.tp + (self.fp + self.fn) / 2)
        return float(quality[0]), float(ratio(self.iou, self.tp)[0]), float(recognised[0])


def ratio(
    part: Float[np.ndarray, " threshold"], whole: Float[np.ndarray, " threshold"]
) -> Float[np.ndarray, " threshold"]:
    """NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def overlaps_of(truth: Labels, prediction: Labels) -> Overlaps:
    """Pairs, pixels and IoU; pixels that are void in the truth belong to nobody, so that a prediction on nothing else is none at all."""
    known = truth != VOID
    _, true_areas, truth = dense(truth[known])
    labels, areas, prediction = dense(prediction[known])
    on_both = (truth >= 0) & (prediction >= 0)
    codes, shared = np.unique(truth[on_both] * len(labels) + prediction[on_both], return_counts=True)
    truths, predictions = np.divmod(codes, max(1, len(labels)))
    union = true_areas[truths] + areas[predictions] - shared
    return Overlaps(truths, predictions, shared, shared / union, true_areas, areas)


def dense(
    labels: Int64[np.ndarray, " pixel"],
) -> tuple[Int64[np.ndarray, " object"], Int64[np.ndarray, " object"], Int64[np.ndarray, " pixel"]]:
    """Labels and areas of all objects, and the pixels with the objects' numbers from 0, -1 for the background."""
    areas = np.bincount(labels.clip(min=BACKGROUND))
    areas[:1] = 0
    present = np.nonzero(areas)[0]
    number = np.full(len(areas), -1)
    number[present] = np.arange(len(present))
    return present, areas[present], number[labels.clip(min=BACKGROUND)] if len(areas) else labels


def match(overlaps: Overlaps, threshold: float) -> Int64[np.ndarray, " match"]:
    """The pairs that are matched one to one: those with an IoU of `threshold` >= 0.5 or more.

    Objects of a label map are disjoint, hence two pairs of one object are possible at exactly 0.5 alone: its partners are then its two halves
    and overlap nothing else, and either may be taken. So the first is, and the number of pairs is that of an optimal assignment.

    Raises:
        ValueError: a threshold below 0.5, where an assignment would have to be chosen.
    """
    if threshold < 0.5:
        raise ValueError(f"threshold {threshold} is below 0.5: matches would not be unique")
    pairs = np.nonzero(overlaps.ious >= threshold)[0]
    pairs = pairs[np.unique(overlaps.truths[pairs], return_index=True)[1]]
    return pairs[np.unique(overlaps.predictions[pairs], return_index=True)[1]]


def count_matches(
    overlaps: Overlaps, truths: Bool[np.ndarray, " truth"], predictions: Bool[np.ndarray, " prediction"]
) -> Counts:
    """The counts of an image at each of `THRESHOLDS`, of the chosen true objects and, where they match none at all, the chosen predictions."""
    rows = []
    for threshold in THRESHOLDS:
        pairs = match(overlaps, float(threshold))
        mine = pairs[truths[overlaps.truths[pairs]]]
        unmatched = predictions.copy()
        unmatched[overlaps.predictions[pairs]] = False
        rows.append((len(mine), unmatched.sum(), truths.sum() - len(mine), overlaps.ious[mine].sum()))
    return Counts(*np.array(rows, dtype=np.float64).T)


def count_image(truth: Labels, prediction: Labels) -> tuple[Counts, Counts]:
    """The counts of an image, and those of its touching objects: a prediction is a false positive there when it matches nothing and the true
    object that it shares most pixels with touches another."""
    overlaps = overlaps_of(truth, prediction)
    close = touching(truth)
    most = np.full(overlaps.prediction_count, -1)
    order = np.argsort(overlaps.shared, kind="stable")
    most[overlaps.predictions[order]] = overlaps.truths[order]
    on_close = np.append(close, False)[most]
    everything = count_matches(
        overlaps, np.ones(overlaps.truth_count, dtype=bool), np.ones(overlaps.prediction_count, dtype=bool)
    )
    return everything, count_matches(overlaps, close, on_close)


def touching(labels: Labels) -> Bool[np.ndarray, " object"]:
    """Which objects, in the order of their labels, have a box closer than `TOUCHING_GAP` pixels to another object's.

    Between boxes with g and h empty pixels in the two directions lie max(g, h) < 2 pixels exactly when sqrt(g^2 + h^2) < 2.
    """
    number = dense(labels.ravel())[2].reshape(labels.shape)
    rows, columns = np.nonzero(number >= 0)
    which = number[rows, columns]
    count = int(which.max(initial=-1)) + 1
    low, high = np.full((2, count), max(labels.shape)), np.full((2, count), -1)
    for axis, places in enumerate((rows, columns)):
        np.minimum.at(low[axis], which, places)
        np.maximum.at(high[axis], which, places + 1)
    gap = np.maximum(low[:, :, None] - high[:, None], low[:, None] - high[:, :, None]).max(0)
    np.fill_diagonal(gap, TOUCHING_GAP)
    close: Bool[np.ndarray, " object"] = (gap < TOUCHING_GAP).any(1)
    return close


def instance_figures(pairs: Iterable[LabelPair]) -> dict[str, float]:
    """From the (truth, prediction) label maps of all images to figures.

    Returns:
        `AP50` .. `AP90`, the mean over the images; `PQ SQ RQ`, likewise, at IoU 0.5; each with `-pooled`, from the counts of all images together;
        `AP50-touching` and `recall50-touching` (both also pooled). An image without objects and predictions of the kind is left out of a mean.
    """
    images = [count_image(truth, prediction) for truth, prediction in pairs]
    if not images:
        return {}
    rows = [figures_of(*counts) for counts in images]
    pooled = figures_of(
        sum((counts[0] for counts in images[1:]), images[0][0]),
        sum((counts[1] for counts in images[1:]), images[0][1]),
    )
    figures = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        if not np.isnan(values).all():
            figures[name] = float(np.nanmean(values))
    return figures | {f"{name}-pooled": value for name, value in pooled.items() if not np.isnan(value)}


def figures_of(everything: Counts, close: Counts) -> dict[str, float]:
    """The figures of one image, or of the sum of several; NaN where undefined."""
    figures = {
        f"AP{round(100 * threshold)}": float(value)
        for threshold, value in zip(THRESHOLDS, everything.average_precision(), strict=True)
    }
    figures |= dict(zip(("PQ", "SQ", "RQ"), everything.panoptic(), strict=True))
    return figures | {
        "AP50-touching": float(close.average_precision()[0]),
        "recall50-touching": float(close.recall()[0]),
    }


def label_maps(
    truth: dict[str, Any], results: list[dict[str, Any]], select: Callable[[Proposals], Labels]
) -> Iterator[LabelPair]:
    """The label maps of all images of the truth, one after the other, at original size.

    Args:
        truth: in COCO format; crowds become void, of objects that overlap the one of fewer pixels is on top, as in training.
        results: rows of a COCO results file that has been checked; void is taken out of the masks before `select` sees them.
        select: makes ranked masks one label map, such as `select_instances` with its threshold.
    """
    annotations: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    rows: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for result in without_void(truth, results):
        rows[result["image_id"]].append(result)
    for image in truth["images"]:
        size = (int(image["height"]), int(image["width"]))
        ranked = sorted(rows[image["id"]], key=lambda row: -row["score"])
        scores = np.array([row["score"] for row in ranked], dtype=np.float64)
        yield (
            true_labels(annotations[image["id"]], size),
            select(Proposals([compressed(row["segmentation"], size) for row in ranked], scores, size)),
        )


def true_labels(annotations: list[dict[str, Any]], size: tuple[int, int]) -> Labels:
    """One image's annotations as a label map."""
    labels = np.full(size, BACKGROUND, dtype=np.int64)
    for number, annotation in enumerate(painting_order(annotations, size), start=1):
        labels[decode_mask(compressed(annotation["segmentation"], size))] = (
            VOID if annotation.get("iscrowd", 0) else number
        )
    return labels


def painting_order(annotations: list[dict[str, Any]], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return crowds first, then objects by descending pixels of their own masks, so that the smaller comes to lie on top.

    The field `area` decides nothing, as it may be a placeholder.
    """
    pixels = [int(coco_mask.area(compressed(annotation["segmentation"], size))) for annotation in annotations]
    order = sorted(
        range(len(annotations)), key=lambda place: (not annotations[place].get("iscrowd", 0), -pixels[place])
    )
    return [annotations[place] for place in order]
