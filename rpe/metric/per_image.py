"""Count matched, missed, split and merged objects of each image, to find the images worth looking at."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rpe.metric.instance_ap import LabelPair, Labels, compute_overlaps, match_labels
from rpe.run_files import rows_to_csv


@dataclass
class ImageRow:
    """One row of the table of images. Void pixels are ignored; "most of" means more than half.

    Args:
        image_id, file_name: as in the truth.
        objects: true objects with at least one visible pixel.
        proposals: predicted masks, whatever their score.
        instances: masks of the label map: above the score threshold, with at least half of their pixels kept.
        matched: objects matched one to one with an instance of IoU >= 0.5.
        missed: objects that are not matched, including split and merged ones.
        extra: instances that match no object.
        split: unmatched objects with two or more instances mostly inside that together cover most of the
            object.
        merged: objects, matched or not, mostly inside an instance that also covers most of another object.
        AP50: matched / (objects + extra); None without objects and instances.
    """

    image_id: int
    file_name: str
    objects: int
    proposals: int
    instances: int
    matched: int
    missed: int
    extra: int
    split: int
    merged: int
    AP50: float | None

    def badness(self) -> tuple[float, int, str]:
        """Return the sort key that puts the worst image first: low AP50, then many missed and extra ones."""
        return 2.0 if self.AP50 is None else self.AP50, -self.missed - self.extra, self.file_name


def image_row(image: dict[str, Any], proposals: int, truth: Labels, prediction: Labels) -> ImageRow:
    """Compare the two label maps of one image and return its row."""
    overlaps = compute_overlaps(truth, prediction)
    shared, pairs = overlaps.shared, match_labels(overlaps, 0.5)
    matched = np.zeros(overlaps.truth_count, dtype=bool)
    matched[overlaps.truths[pairs]] = True

    inside = 2 * shared > overlaps.prediction_areas[overlaps.predictions]
    parts = overlaps.truths[inside]
    covered = np.bincount(parts, shared[inside], overlaps.truth_count)
    several = np.bincount(parts, minlength=overlaps.truth_count) > 1
    split = ~matched & several & (2 * covered > overlaps.truth_areas)

    swallowed = 2 * shared > overlaps.truth_areas[overlaps.truths]
    clumps = np.bincount(overlaps.predictions[swallowed], minlength=overlaps.prediction_count) > 1
    # more than half of an object lies in one instance at most
    merged = int(np.count_nonzero(clumps[overlaps.predictions[swallowed]]))

    objects, instances, hits = overlaps.truth_count, overlaps.prediction_count, len(pairs)
    extra = instances - hits
    precision = hits / (objects + extra) if objects + extra else None
    name = str(image.get("file_name", image["id"]))
    split_count = int(np.count_nonzero(split))
    return ImageRow(
        image["id"],
        name,
        objects,
        proposals,
        instances,
        hits,
        objects - hits,
        extra,
        split_count,
        merged,
        precision,
    )


def record_images(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], pairs: Iterable[LabelPair], rows: list[ImageRow]
) -> Iterator[LabelPair]:
    """Yield the label maps of all images unchanged, and append each image's row to `rows`."""
    proposals = Counter(result["image_id"] for result in results)
    for image, pair in zip(truth["images"], pairs, strict=True):
        rows.append(image_row(image, proposals[image["id"]], *pair))
        yield pair


def images_csv(rows: list[ImageRow]) -> str:
    """Return the table as CSV text, the worst image first."""
    names = [field.name for field in fields(ImageRow)]
    table = [[getattr(row, name) for name in names] for row in sorted(rows, key=ImageRow.badness)]
    cells = ([f"{value:.4f}" if isinstance(value, float) else value for value in row] for row in table)
    return rows_to_csv([names, *cells])
