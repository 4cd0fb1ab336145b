"""Count what happened to each image's objects, so that a person finds the images to look at."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rpe.metric.instance_ap import LabelPair, Labels, match, overlaps_of


@dataclass
class ImageRow:
    """One image of the table. Void pixels belong to neither object nor instance; "most of" means more than half.

    Args:
        image_id, file_name: as the truth has them.
        objects: true objects that show a pixel.
        proposals: masks that were predicted, whatever their score.
        instances: masks of the label map: those over the score threshold that keep half of their pixels.
        matched: objects that an instance overlaps by an IoU of 0.5 or more, one to one.
        missed: objects that are not matched, split and merged ones among them.
        extra: instances that match no object.
        split: unmatched objects with two or more instances that lie mostly inside and together cover most
            of it.
        merged: objects, matched or not, most of which lies in an instance that covers most of another object
            too.
        AP50: matched / (objects + extra); None where there is neither object nor instance.
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
        """Return the key that sorts the worst image first: low AP50, then many wrong objects and instances."""
        return 2.0 if self.AP50 is None else self.AP50, -self.missed - self.extra, self.file_name


def image_row(image: dict[str, Any], proposals: int, truth: Labels, prediction: Labels) -> ImageRow:
    """Compare the label maps of one image of the truth."""
    overlaps = overlaps_of(truth, prediction)
    shared, pairs = overlaps.shared, match(overlaps, 0.5)
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
    truth: dict[str, Any], results: list[dict[str, Any]], pairs: Iterable[LabelPair], rows: list[ImageRow]
) -> Iterator[LabelPair]:
    """Yield the label maps of all images of the truth as they come, and append the row of each to `rows`."""
    proposals = Counter(result["image_id"] for result in results)
    for image, pair in zip(truth["images"], pairs, strict=True):
        rows.append(image_row(image, proposals[image["id"]], *pair))
        yield pair


def images_csv(rows: list[ImageRow]) -> str:
    """Write the table with the worst image first."""
    stream = io.StringIO()
    names = [field.name for field in fields(ImageRow)]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    for row in sorted(rows, key=ImageRow.badness):
        values = [getattr(row, name) for name in names]
        writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in values])
    return stream.getvalue()
