"""Instance grouping: train the embedding through the loops, evaluate proposals against the truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Optimizer

from rpe.data.module import (
    InstanceData,
    Sample,
    Split,
    SplitData,
    SplitDataset,
    collate,
    make_generator,
)
from rpe.loss import InstanceLoss, SemanticLoss
from rpe.metric.average_recall import BACKENDS, average_recall
from rpe.metric.packed_rows import PackedRows
from rpe.metric.semantic import Confusion
from rpe.network.head import Classifier
from rpe.network.model import PixelEmbedding
from rpe.picture.sheet import draw_sheet
from rpe.segment import (
    GroupFeatures,
    Proposer,
    Segmenter,
    compute_best_ious,
    compute_group_features,
    detach_output,
    select_image,
    truth_on_grid,
)
from rpe.structures import Geometry, InstanceBatch, NetworkOutput, Truth, UserError, upload
from rpe.task.base import Result, Scoring, Task
from rpe.task.classes import ClassEvaluator, ClassReport, NoClasses
from rpe.task.embedding_metrics import embedding_metrics, mean_of_images
from rpe.task.instance_result import InstanceResult
from rpe.task.predictions import (
    assign_truth_ids,
    keep_images,
    keep_rows,
    read_results,
    refuse_thresholds,
    select_names,
)

RANKER_INTERVAL = 4
"""Steps between two steps of the ranker: grouping an image takes as long as a step of a small network."""

ImageEvaluation = dict[str, Any]
"""Of one image: `image_id`, and where they exist `results`, `metrics` and `classes`."""

CLASSES = "classes"
"""Checkpoint key of the learned categories: names by id; older checkpoints have a list of names."""


class InstanceTask(Task):
    """Grouping of pixels into objects, class-agnostic or with classes (`head=semantic loss=semantic`).

    Args:
        model: network and recurrent grouping.
        loss: minimised by training.
        proposal: groups and ranks masks, at inference.
        optimizer, schedule: see `Task`.
        seed: of the drawn pixels.

    Raises:
        UserError: head and loss do not fit, or the loss groups nothing.
    """

    monitor = "val/AR@100"  # AR@10 cannot tell networks apart where an image holds more than ten objects
    shown: ClassVar[tuple[str, ...]] = ("AR@10", "AR@100", "ARI-modes", "margin_violations/X0")
    takes = InstanceData

    needs_grouping: ClassVar[bool] = True
    """Whether a loss that groups nothing is refused."""

    backends = BACKENDS

    def __init__(
        self,
        model: PixelEmbedding,
        loss: InstanceLoss | SemanticLoss,
        proposal: Proposer,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[float], float],
        seed: int,
    ) -> None:
        super().__init__(optimizer, schedule)
        head = model.objectness
        if isinstance(head, Classifier) != isinstance(loss, SemanticLoss):
            raise UserError(
                f"head and loss must fit, got {type(head).__name__} and {type(loss).__name__}. "
                "head=semantic needs loss=semantic."
            )
        self.uses_grouping = loss.pairwise.weight > 0
        if self.needs_grouping and not self.uses_grouping:
            raise UserError(
                "loss.pairwise.weight must be > 0, got 0. task=semantic trains classes without groups."
            )
        self.model = model
        self.loss = loss
        self.proposal = proposal
        self.seed = seed
        self.rows: list[ImageEvaluation] = []
        self.class_evaluator: ClassEvaluator | NoClasses = (
            ClassEvaluator(head.classes, proposal.min_area) if isinstance(head, Classifier) else NoClasses()
        )

    @property
    def segmenter(self) -> Segmenter:
        """Return the path from images to objects with the current weights."""
        return Segmenter(
            self.model, self.proposal, self.uses_grouping, categories=self.class_evaluator.categories
        )

    def check_dataset(self, dataset: Split) -> None:
        """Check that the dataset has the classes of the head."""
        assert isinstance(dataset, SplitDataset)
        self.class_evaluator.check_classes(dataset.classes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.class_evaluator.categories:
            checkpoint[CLASSES] = self.class_evaluator.categories

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        learned = checkpoint.get(CLASSES, {})
        self.class_evaluator.categories = (
            learned if isinstance(learned, dict) else dict(enumerate(learned, start=1))
        )

    @staticmethod
    def score(
        data: SplitData,
        split: str,
        predictions: Path,
        folder: Path,
        names: list[str | int] | None,
        scoring: Scoring,
    ) -> Result:
        """Return average recall of a COCO results file, and instance metrics of masks above the threshold."""
        assert isinstance(data, InstanceData)
        refuse_thresholds(scoring)
        whole = data.truth(split)
        truth, results = select_names(whole, names), assign_truth_ids(read_results(predictions), whole)
        if names is not None:
            results = keep_rows(results, truth)
        metrics = average_recall(truth, results, scoring.backend)
        metrics |= count_masks(len(truth["images"]), len(results))
        result = InstanceResult(metrics, truth, results, ours=False, score_threshold=scoring.score_threshold)
        result.add_instance_metrics()
        return result

    def choose_pixels(
        self, batch: InstanceBatch, index: int
    ) -> tuple[Float[Tensor, "batch pixel 2"], Int64[Tensor, "batch pixel"]]:
        """Choose positions and labels of a step's pixels at random.

        They depend on the step and on each image's place in the batch of all ranks alone. So a resumed run
        draws the pixels of the uninterrupted one, and two ranks those of one process.
        """
        ranks, drawn = self.trainer.world_size, []
        for place in range(len(batch.labels)):
            numbers = make_generator(self.seed, self.current_epoch, index, place * ranks + self.global_rank)
            generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
            drawn.append(self.loss.pairwise.choose_pixels(batch.labels[place : place + 1], generator))
        positions, labels = zip(*drawn, strict=True)
        return torch.cat(positions), torch.cat(labels)

    def training_step(self, batch: InstanceBatch, index: int) -> Float[Tensor, ""]:
        positions, labels = self.choose_pixels(batch, index)
        output, iterates = (
            self.model(batch.images, positions)
            if self.uses_grouping
            else (self.model.embed(batch.images), [])
        )
        terms = self.loss(iterates, positions, labels, output, batch)
        if index == 0:  # once an epoch, as each term costs a backward pass of its own
            self.log_term_gradients(terms, output.features.values)
        if self.uses_grouping and self.proposal.ranker.learns and index % RANKER_INTERVAL == 0:
            terms["ranking"] = self.compute_ranking_loss(output, batch, index)
        return self.log_loss(terms, len(batch.images))

    def compute_ranking_loss(
        self, output: NetworkOutput, batch: InstanceBatch, index: int
    ) -> Float[Tensor, ""]:
        """Return the ranker's loss on the groups of one image, by one of inference's settings.

        Images and settings take turns over all epochs: grouping every image by all of them would take longer
        than the network. The image is grouped on the CPU, as the number of groups, and much on the way to it,
        depends on values: read one by one from a GPU, they would stop it a hundred times.
        """
        with torch.autocast(self.device.type, enabled=False):
            step = self.current_epoch * int(self.trainer.num_training_batches) + index
            turn, image = divmod(step // RANKER_INTERVAL, len(batch.images))
            one = detach_output(select_image(output, image), torch.device("cpu"))
            size = (batch.images.shape[2], batch.images.shape[3])
            setting = self.proposal.settings[turn % len(self.proposal.settings)]
            groups = self.proposal.group_cells(one, size, setting)
            quality = compute_best_ious(groups, truth_on_grid(batch.labels[image].cpu(), one.points))
            features = GroupFeatures(
                *(upload(part, self.device) for part in compute_group_features(groups, one))
            )
            return self.proposal.ranker.loss(features, upload(quality, self.device))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the ranker's gradients apart from all others.

        The ranker learns beside the network on detached features. In one clip, a bad step of its regression
        would shorten the embedding's step too.
        """
        if not gradient_clip_val:  # 0 does not clip either, as in Lightning
            return
        by_value = gradient_clip_algorithm == "value"
        clip = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
        ranker = list(self.proposal.ranker.parameters())
        others = [parameter for parameter in self.parameters() if not any(parameter is one for one in ranker)]
        for parameters in (ranker, others):
            clip(parameters, gradient_clip_val)

    def validation_step(self, batch: InstanceBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def test_step(self, batch: InstanceBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def evaluate_batch(self, batch: InstanceBatch) -> None:
        """Keep a row for each image: its proposals, the metrics of its embedding, and its classes if any."""
        network_size = (batch.images.shape[2], batch.images.shape[3])
        segmenter = self.segmenter
        outputs = segmenter.embed(batch.images)
        # the network may run in half precision, metrics never do
        with torch.autocast(self.device.type, enabled=False):
            for index, (image_id, size) in enumerate(zip(batch.image_ids, batch.sizes, strict=True)):
                output, labels = select_image(outputs, index), batch.labels[index]
                proposals, probability = segmenter.propose(output, Geometry(network_size, size))
                row: ImageEvaluation = {"image_id": image_id}
                if self.uses_grouping:
                    margin = self.loss.pairwise.margin
                    row["results"] = PackedRows(proposals.to_coco(image_id, [0]))
                    row["metrics"] = embedding_metrics(
                        output, labels, self.model.grouping, self.proposal, margin
                    )
                row["classes"] = self.class_evaluator.evaluate_image(
                    probability, proposals if self.uses_grouping else None
                )
                self.rows.append(row)

    def on_validation_epoch_end(self) -> None:
        self.compute_metrics(self.trainer.val_dataloaders.dataset.truth())  # type: ignore[union-attr]
        # images without an object have no recall; the checkpoint still needs its metric
        metrics = {f"val/{name}": value for name, value in self.result.metrics.items()}
        self.log_dict({self.monitor: float("nan")} | metrics)

    def on_test_epoch_end(self) -> None:
        self.compute_metrics(self.trainer.test_dataloaders.dataset.truth())  # type: ignore[union-attr]
        self.result = self.compute_on_first(self.add_instance_metrics)

    def add_instance_metrics(self) -> Result:
        """Return `result` with the metrics of label maps; only at the end, as every mask is painted."""
        if isinstance(self.result, InstanceResult):
            self.result.add_instance_metrics()
        return self.result

    def compute_metrics(self, truth: Truth) -> None:
        """Set `result` from all ranks' rows; see `compute_on_first`."""
        mine = {row["image_id"]: row["classes"] for row in self.rows}
        self.class_evaluator.count(keep_images(truth, mine), mine)
        confusion = self.class_evaluator.pop_confusion()
        by_image = {row["image_id"]: row for rows in self.gather_on_first(self.rows) for row in rows}
        self.rows = []
        rows = [by_image[image_id] for image_id in sorted(by_image)]
        seen = keep_images(truth, by_image)
        self.result = self.compute_on_first(lambda: self.make_result(rows, seen, confusion))

    def make_result(self, rows: list[ImageEvaluation], seen: Truth, confusion: Confusion | None) -> Result:
        """Return the result of all images.

        Args:
            rows: of the images, by ascending image id.
            seen: the truth of these images.
            confusion: pixels by true and predicted class; None where the head knows no classes.
        """
        category = seen["categories"][0]["id"] if seen["categories"] else 1
        results = PackedRows(
            result | {"category_id": category} for row in rows for result in row.pop("results")
        )
        metrics = average_recall(seen, results, self.backend)
        metrics |= mean_of_images([row["metrics"] for row in rows]) | count_masks(len(rows), len(results))
        classes = self.report_classes(rows, seen, confusion)
        if classes is not None:
            metrics |= classes.metrics
        return InstanceResult(
            metrics,
            seen,
            results,
            ours=True,
            score_threshold=self.proposal.score_threshold,
            classes=classes,
        )

    def report_classes(
        self, rows: list[ImageEvaluation], seen: Truth, confusion: Confusion | None
    ) -> ClassReport | None:
        """Return the metrics by class; None where the head knows no classes. See `make_result`."""
        classes = {row["image_id"]: row["classes"] for row in rows}
        return self.class_evaluator.make_report(seen, classes, confusion, self.backend)

    @torch.no_grad()
    def initialise_from_data(self, samples: list[Sample]) -> None:
        """Initialise the embedding from features of the untrained network."""
        self.model.embedding.initialise_from_data(self.model.backbone(collate(samples).images)[0])

    def draw_example(self, sample: Sample, folder: Path) -> Path:
        """Draw image, truth, embedding at each iterate, groups and instances."""
        batch = collate([sample])
        file = folder / f"val-{batch.image_ids[0]}.png"
        draw_sheet(batch, self.segmenter, file)
        return file


def count_masks(images: int, masks: int) -> dict[str, float]:
    """Return the numbers of images and masks behind the metrics."""
    return {"images": float(images), "masks-per-image": masks / max(1, images)}
