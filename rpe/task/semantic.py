"""Semantic segmentation: the class of each pixel, learned with the grouping loss beside the cross-entropy or without."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from rpe.data.module import InstanceData, Sample, SplitData, Truth, collate, distinct_names
from rpe.loss import SemanticLoss
from rpe.metric.class_map import read_png
from rpe.network.model import PixelEmbedding
from rpe.picture.classes import draw_class_sheet
from rpe.segment import Proposer
from rpe.structures import Geometry, InstanceBatch
from rpe.task.base import Result, Scoring
from rpe.task.classes import BACKGROUND_NAME, ClassReport, score_maps, score_results, shared_categories
from rpe.task.instance import InstanceTask, counts_of
from rpe.task.predictions import of_names, only_rows, read_results, refuse_thresholds, with_truth_ids


@dataclass
class SemanticResult(Result):
    """Of a network that groups nothing."""

    classes: ClassReport
    lines: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return why figures are 0."""
        return self.lines

    def files(self) -> dict[str, str | bytes]:
        """What `ClassReport` names."""
        return self.classes.files()

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """What `ClassReport` draws."""
        self.classes.draw(folder)


class SemanticTask(InstanceTask):
    """Classes first: as `InstanceTask` with a head that knows classes, but the best checkpoint is the one with the highest mIoU.

    With `loss.pairwise_weight` 0 nothing is grouped: the network is backbone and classifier, its embedding is left as it was made, and its instances are
    the connected parts of the class map. The parts are built all the same, so that a run with the grouping loss starts from the same weights.
    """

    monitor = "val/mIoU"
    shown = ("mIoU", "accuracy", "AP", "components-AP", "AR@10")
    needs_groups = False

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
        if not self.groups:
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
        """A folder of class maps: mIoU; or a COCO results file whose rows have a category: average precision."""
        assert isinstance(data, InstanceData)
        refuse_thresholds(scoring)
        whole = data.truth(split)
        truth = of_names(whole, names)
        if predictions.is_dir():
            report = score_maps(truth, predictions)
            return SemanticResult(report.figures | {"images": float(len(truth["images"]))}, report)
        results = with_truth_ids(read_results(predictions), whole)
        if names is not None:
            results = only_rows(results, truth)
        report = score_results(truth, results, scoring.backend)
        return SemanticResult(
            report.figures | counts_of(len(truth["images"]), len(results)),
            report,
            shared_categories(truth, results),
        )

    def training_step(self, batch: InstanceBatch, index: int) -> Float[Tensor, ""]:
        if self.groups:
            return super().training_step(batch, index)
        positions, labels = self.chosen_pixels(batch, index)
        logits = self.model.classify(batch.images)
        return self.logged_sum(self.loss([], positions, labels, logits, batch.classes()), len(batch.images))

    def compute_metrics(self, truth: Truth) -> None:
        if self.groups:
            return super().compute_metrics(truth)
        rows, seen = self.gathered_rows(truth)
        report = self.class_report(rows, seen)
        assert report is not None
        self.result = SemanticResult(
            report.figures | counts_of(len(rows), len(report.results["components"])), report
        )
        return None

    def draw_example(self, sample: Sample, folder: Path) -> Path:
        """Image, true and found classes, and where pixels are grouped, the groups with their classes."""
        assert self.examiner is not None
        batch = collate([sample])
        geometry = Geometry((batch.images.shape[2], batch.images.shape[3]), sample.size)
        proposals, probability = self.segmenter.propose(self.segmenter.embed(batch.images), geometry)
        assert probability is not None
        examined = self.examiner.examine(probability, proposals if self.groups else None)
        file = folder / f"val-{sample.image_id}.png"
        names = [BACKGROUND_NAME, *distinct_names(self.examiner.categories, BACKGROUND_NAME).values()]
        image = sample.image.permute(1, 2, 0).numpy()
        draw_class_sheet(
            image, batch.classes()[0].numpy(), read_png(examined.png), examined.instances, names, file
        )
        return file
