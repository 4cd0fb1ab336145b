"""Semantic segmentation: the class of each pixel, learned with or without the grouping loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from rpe.data.module import InstanceData, Sample, SplitData, collate, distinct_names
from rpe.loss import SemanticLoss
from rpe.metric.class_map import read_png
from rpe.metric.semantic import Confusion
from rpe.network.model import PixelEmbedding
from rpe.picture.classes import draw_class_sheet
from rpe.segment import Proposer
from rpe.structures import Truth
from rpe.task.base import Result, Scoring
from rpe.task.classes import (
    BACKGROUND_NAME,
    ClassEvaluator,
    ClassReport,
    explain_zero_precision,
    score_class_maps,
    score_results,
)
from rpe.task.instance import ImageEvaluation, InstanceTask, count_masks
from rpe.task.predictions import (
    assign_truth_ids,
    keep_rows,
    read_results,
    refuse_thresholds,
    select_names,
)


@dataclass
class SemanticResult(Result):
    """Metrics of a network that groups nothing, or of predictions with classes read from a file.

    Args:
        classes: metrics by class.
        lines: notes about metrics of 0.
    """

    classes: ClassReport
    lines: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return why metrics are 0."""
        return self.lines

    def files(self) -> dict[str, str | bytes]:
        """Return the files of `ClassReport`."""
        return self.classes.files()

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Draw the pictures of `ClassReport`."""
        self.classes.draw(folder)


class SemanticTask(InstanceTask):
    """Semantic segmentation: an `InstanceTask` with classes whose best checkpoint has the highest mIoU.

    With `loss.pairwise.weight=0` nothing is grouped. The network is backbone and classifier, and its
    instances are the connected components of the class map. Embedding, grouping and proposer are built but
    not trained, so that runs with and without the grouping loss start from the same weights.
    """

    monitor = "val/mIoU"
    shown = ("mIoU", "accuracy", "AP", "components-AP", "AR@10")
    needs_grouping = False

    def __init__(
        self,
        model: PixelEmbedding,
        loss: SemanticLoss,
        proposal: Proposer,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[float], float],
        seed: int,
    ) -> None:
        super().__init__(model, loss, proposal, optimizer, schedule, seed)
        if not self.uses_grouping:
            for part in (model.embedding, model.grouping, proposal):
                part.requires_grad_(False)

    @staticmethod
    def score(
        data: SplitData,
        split: str,
        predictions: Path,
        folder: Path,
        names: list[str | int] | None,
        scoring: Scoring,
    ) -> SemanticResult:
        """Return mIoU of a folder of class maps, or average precision of a results file with categories."""
        assert isinstance(data, InstanceData)
        refuse_thresholds(scoring)
        whole = data.truth(split)
        truth = select_names(whole, names)
        if predictions.is_dir():
            report = score_class_maps(truth, predictions)
            return SemanticResult(report.metrics | {"images": float(len(truth["images"]))}, report)
        results = assign_truth_ids(read_results(predictions), whole)
        if names is not None:
            results = keep_rows(results, truth)
        report = score_results(truth, results, scoring.backend)
        return SemanticResult(
            report.metrics | count_masks(len(truth["images"]), len(results)),
            report,
            explain_zero_precision(truth, results),
        )

    def make_result(self, rows: list[ImageEvaluation], seen: Truth, confusion: Confusion | None) -> Result:
        """Return the result of all images; the classes' metrics alone where nothing is grouped."""
        if self.uses_grouping:
            return super().make_result(rows, seen, confusion)
        report = self.report_classes(rows, seen, confusion)
        assert report is not None
        return SemanticResult(
            report.metrics | count_masks(len(rows), len(report.results["components"])), report
        )

    def draw_example(self, sample: Sample, folder: Path) -> Path:
        """Draw image, true classes, predicted classes and, where pixels are grouped, groups with classes."""
        assert isinstance(self.class_evaluator, ClassEvaluator)
        batch = collate([sample])
        proposals, probability = self.segmenter.propose(*self.segmenter.embed_one(batch))
        assert probability is not None
        classes = self.class_evaluator.evaluate_image(probability, proposals if self.uses_grouping else None)
        file = folder / f"val-{sample.image_id}.png"
        names = [BACKGROUND_NAME, *distinct_names(self.class_evaluator.categories, BACKGROUND_NAME).values()]
        image = sample.image.permute(1, 2, 0).numpy()
        draw_class_sheet(
            image, batch.classes()[0].numpy(), read_png(classes.png), classes.instances, names, file
        )
        return file
