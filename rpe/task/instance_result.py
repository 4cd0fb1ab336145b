"""The result of an evaluation of objects: metrics, files and pictures."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from rpe.data.module import SplitData
from rpe.metric.calibration import Reliability, reliability, scored_ious
from rpe.metric.curve import PUBLISHED_RECALL, recall_against_number, recall_against_overlap, select_published
from rpe.metric.instance_ap import instance_metrics, label_maps
from rpe.metric.per_image import ImageRow, images_csv, record_images
from rpe.picture.recall import draw_recall
from rpe.picture.reliability import draw_reliability
from rpe.segment import select_instances
from rpe.structures import ResultRow, Truth
from rpe.task.base import Result
from rpe.task.classes import ClassReport


def format_rows(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Yield the text of a COCO results file row by row, as `json.dumps` formats the list."""
    yield "["
    for number, row in enumerate(rows):
        yield (", " if number else "") + json.dumps(row)
    yield "]"


@dataclass
class InstanceResult(Result):
    """Metrics of ranked masks against the truth.

    Args:
        truth: annotations of the evaluated images.
        results: the masks as rows of a COCO results file.
        ours: whether a run of this project made them; otherwise they were read from a file.
        score_threshold: of the masks that become one label map.
        classes: metrics by class, where the network knows classes.
        images: metrics of each image, once `add_instance_metrics` has run.
    """

    truth: Truth
    results: Sequence[ResultRow]
    ours: bool
    score_threshold: float = 0.0
    classes: ClassReport | None = None
    images: list[ImageRow] = field(default_factory=list)

    @cached_property
    def reliability(self) -> Reliability:
        """The masks' scores against their IoU."""
        return reliability(*scored_ious(self.truth, self.results))

    def add_instance_metrics(self) -> None:
        """Add the metrics of one label map an image and `score-ECE`, the calibration error; fill `images`."""
        select = partial(select_instances, threshold=self.score_threshold)
        pairs = label_maps(self.truth, self.results, select)
        self.images = []
        self.metrics |= instance_metrics(record_images(self.truth, self.results, pairs, self.images))
        if (error := self.reliability.calibration_error()) is not None:
            self.metrics["score-ECE"] = error

    def notes(self) -> list[str]:
        """Return why metrics are 0: no mask, none above the score threshold, or none over an object."""
        best = max((row["score"] for row in self.results), default=None)
        if best is None:
            remedy = ". Lower proposal.foreground_thresholds or proposal.min_area" if self.ours else ""
            return [f"the predictions hold no mask, so recall and precision are 0{remedy}"]
        lines = []
        if best < self.score_threshold:
            key = "proposal.score_threshold" if self.ours else "score_threshold"
            lines.append(
                f"no mask has a score of {key} {self.score_threshold:g} or more, the best has {best:.4g}, "
                f"so AP and PQ count none of {len(self.results):,}. Lower {key}"
            )
        if self.metrics.get("AR@1000") == 0:
            remedy = "" if self.ours else ". Check that image_id and masks belong to this split"
            lines.append(f"no mask overlaps an object of its image by an IoU of 0.5{remedy}")
        return lines

    def files(self) -> dict[str, str | bytes | Iterable[str]]:
        """Return `images.csv` (see `ImageRow`) and `reliability.csv`; of a run also `proposals.json`.

        With classes also the files of `ClassReport`.
        """
        files: dict[str, str | bytes | Iterable[str]] = {"images.csv": images_csv(self.images)}
        files["reliability.csv"] = self.reliability.as_csv()
        if self.ours:
            files["proposals.json"] = format_rows(self.results)
        return files if self.classes is None else {**files, **self.classes.files()}

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Draw `reliability.png` (IoU against score), `recall-AR.png` and `recall-AR_voc.png`.

        Published values are drawn for a whole published split only. With classes, also draw the pictures of
        `ClassReport`.
        """
        if self.classes is not None:
            self.classes.draw(folder)
        draw_reliability(self.reliability, folder / "reliability.png")
        overlaps = recall_against_overlap(self.truth, self.results, (10, 100, 1000))
        whole = getattr(data, "eval_categories", None) is None
        for protocol in PUBLISHED_RECALL:
            number = recall_against_number(self.truth, self.results, protocol)
            theirs = select_published(protocol, data.name, split, len(self.truth["images"]), whole)
            draw_recall(overlaps, [number], theirs, protocol, folder / f"recall-{protocol}.png")
