"""Instance grouping: train the embedding through the loops, examine proposals against the truth."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Optimizer

from rpe.data.module import InstanceData, Sample, Split, SplitData, SplitDataset, Truth, collate, generator_of
from rpe.grouping import find_modes
from rpe.loss import InstanceLoss, SemanticLoss, mean_cosine_between, share_over_margin
from rpe.metric.average_recall import BACKENDS, average_recall
from rpe.metric.calibration import Reliability, reliability, scored_ious
from rpe.metric.curve import PUBLISHED, published, recall_against_number, recall_against_overlap
from rpe.metric.instance_ap import instance_figures, label_maps
from rpe.metric.partition import adjusted_rand_index
from rpe.metric.per_image import ImageRow, images_csv, record_images
from rpe.network.head import Classifier
from rpe.network.model import PixelEmbedding
from rpe.picture.recall import draw_recall
from rpe.picture.reliability import draw_reliability
from rpe.picture.sheet import draw_sheet
from rpe.segment import (
    Proposer,
    Segmenter,
    describe,
    detached,
    image_of,
    quality_of,
    select_instances,
    truth_on_grid,
)
from rpe.sphere import normalise
from rpe.structures import BACKGROUND, VOID, Geometry, InstanceBatch, NetworkOutput, UserError, pixel_centres
from rpe.task.base import Result, Scoring, Task
from rpe.task.classes import ClassExaminer, ClassReport
from rpe.task.predictions import (
    Row,
    of_names,
    only_images,
    only_rows,
    read_results,
    refuse_thresholds,
    with_truth_ids,
)

EXAMINED = 1024
"""Pixels of an image's objects, evenly drawn, whose groups are compared with the truth."""

PAIRED = 512
"""Pixels of an image, evenly drawn, whose pairs are held against the margin at every iterate: of 1,024, an image's figures take 77 ms, not 46 (T = 3, 1 core)."""

RANKED_EVERY = 4
"""Steps between two of the ranker's: grouping an image takes as long as a step of a small network."""

CLASSES = "classes"
"""Where a checkpoint keeps the ids and names of the categories that were learned; a list is of names alone."""


@dataclass
class InstanceResult(Result):
    """`results` are the proposals as rows of a COCO results file, `truth` the annotations of the images that were examined, `score_threshold` that of the
    masks which become one label map."""

    truth: Truth
    results: list[Row]
    ours: bool
    score_threshold: float = 0.0
    classes: ClassReport | None = None
    images: list[ImageRow] = field(default_factory=list)

    @cached_property
    def reliability(self) -> Reliability:
        """The masks' scores against their IoU."""
        return reliability(*scored_ious(self.truth, self.results))

    def add_instance_figures(self) -> None:
        """Add the figures of one label map an image and `score-ECE`, the calibration error; fill `images`."""
        select = partial(select_instances, threshold=self.score_threshold)
        pairs = label_maps(self.truth, self.results, select)
        self.images = []
        self.figures |= instance_figures(record_images(self.truth, self.results, pairs, self.images))
        if (error := self.reliability.calibration_error()) is not None:
            self.figures["score-ECE"] = error

    def notes(self) -> list[str]:
        """Return why figures are 0: no mask, none of `score_threshold`, or none that overlaps an object."""
        best = max((row["score"] for row in self.results), default=None)
        if best is None:
            return [
                "there is no mask at all: every figure counts none"
                + (" (proposal.foreground, proposal.min_area)" if self.ours else "")
            ]
        lines = []
        if best < self.score_threshold:
            key = "proposal.score_threshold" if self.ours else "score_threshold"
            lines.append(
                f"no mask has a score of {key} {self.score_threshold:g} or more, the best has {best:.4g}: AP and PQ count none of {len(self.results):,}; "
                f"lower {key}"
            )
        if self.figures.get("AR@1000") == 0:
            remedy = "" if self.ours else ": are image_id and masks those of this split?"
            lines.append(f"no mask overlaps an object of its image by an IoU of 0.5{remedy}")
        return lines

    def files(self) -> dict[str, str | bytes]:
        """Return `images.csv` (see `ImageRow`) and `reliability.csv`; with proposals of ours `proposals.json`.

        With classes also what `ClassReport` names.
        """
        files: dict[str, str | bytes] = {"images.csv": images_csv(self.images)}
        files["reliability.csv"] = self.reliability.as_csv()
        if self.ours:
            files["proposals.json"] = json.dumps(self.results)
        return files if self.classes is None else files | self.classes.files()

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Draw scores against IoU as `reliability.png`, and recall as `recall-AR.png` and `recall-AR_voc.png`.

        Published points stand where the data are theirs, and whole. With classes also what `ClassReport` draws.
        """
        if self.classes is not None:
            self.classes.draw(folder)
        draw_reliability(self.reliability, folder / "reliability.png")
        overlaps = recall_against_overlap(self.truth, self.results, (10, 100, 1000))
        whole = getattr(data, "eval_categories", None) is None
        for protocol in PUBLISHED:
            number = recall_against_number(self.truth, self.results, protocol)
            theirs = published(protocol, data.name, split, len(self.truth["images"]), whole)
            draw_recall(overlaps, [number], theirs, protocol, folder / f"recall-{protocol}.png")


class InstanceTask(Task):
    """Grouping of pixels into objects: class-agnostic, or with a head that knows classes (`head=semantic loss=semantic`) each with its class."""

    monitor = "val/AR@10"
    shown: ClassVar[tuple[str, ...]] = ("AR@10", "AR@100", "ARI-modes", "margin_violations/X0")
    takes = InstanceData

    needs_groups: ClassVar[bool] = True
    """Whether it refuses a loss that groups nothing."""

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
        if isinstance(model.objectness, Classifier) != isinstance(loss, SemanticLoss):
            raise UserError(
                f"head {type(model.objectness).__name__} and loss {type(loss).__name__} do not fit: head=semantic wants loss=semantic"
            )
        self.groups = not isinstance(loss, SemanticLoss) or loss.pairwise_weight > 0
        if self.needs_groups and not self.groups:
            raise UserError(
                "loss.pairwise_weight is 0: nothing would be grouped; task=semantic trains classes alone"
            )
        self.model = model
        self.loss = loss
        self.proposal = proposal
        self.seed = seed
        self.rows: list[Row] = []
        self.examiner = (
            ClassExaminer(model.objectness.classes, proposal.min_area)
            if isinstance(model.objectness, Classifier)
            else None
        )

    @property
    def segmenter(self) -> Segmenter:
        """Return the path from images to objects with the current weights."""
        categories = {} if self.examiner is None else self.examiner.categories
        return Segmenter(self.model, self.proposal, self.groups, categories=categories)

    def check_dataset(self, dataset: Split) -> None:
        if self.examiner is not None:
            assert isinstance(dataset, SplitDataset)
            self.examiner.check_classes(dataset.classes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.examiner is not None:
            checkpoint[CLASSES] = self.examiner.categories

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.examiner is not None:
            learned = checkpoint.get(CLASSES, {})
            self.examiner.categories = (
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
        """Average recall of a COCO results file, and the instance figures of its masks of `score_threshold` or more, as of a run."""
        assert isinstance(data, InstanceData)
        refuse_thresholds(scoring)
        whole = data.truth(split)
        truth, results = of_names(whole, names), with_truth_ids(read_results(predictions), whole)
        if names is not None:
            results = only_rows(results, truth)
        figures = average_recall(truth, results, scoring.backend)
        figures |= counts_of(len(truth["images"]), len(results))
        result = InstanceResult(figures, truth, results, ours=False, score_threshold=scoring.score_threshold)
        result.add_instance_figures()
        return result

    def chosen_pixels(
        self, batch: InstanceBatch, index: int
    ) -> tuple[Float[Tensor, "batch pixel 2"], Int64[Tensor, "batch pixel"]]:
        """Positions and labels of the pixels of a step: a function of the step and of each image's place in the batch of all ranks alone, so that a resumed
        run draws what the uninterrupted one would have drawn, and two ranks what one process would."""
        ranks, drawn = self.trainer.world_size, []
        for place in range(len(batch.labels)):
            seed = generator_of(
                self.seed, self.current_epoch, index, place * ranks + self.global_rank
            ).integers(2**62)
            drawn.append(
                self.loss.choose_pixels(
                    batch.labels[place : place + 1], torch.Generator().manual_seed(int(seed))
                )
            )
        positions, labels = zip(*drawn, strict=True)
        return torch.cat(positions), torch.cat(labels)

    def training_step(self, batch: InstanceBatch, index: int) -> Float[Tensor, ""]:
        positions, labels = self.chosen_pixels(batch, index)
        embedded, iterates = self.model(batch.images, positions)
        if embedded.classes is None:
            terms = self.loss(iterates, positions, labels, embedded.objectness, batch.labels, embedded.points)
        else:
            terms = self.loss(iterates, positions, labels, embedded.classes, batch.classes())
        if index == 0:  # once an epoch, as each term costs a backward pass of its own
            self.log_term_gradients(terms, embedded.features.values)
        if self.proposal.ranker.learns and index % RANKED_EVERY == 0:
            terms["ranking"] = self.ranking_loss(embedded, batch, index)
        return self.logged_sum(terms, len(batch.images))

    def ranking_loss(self, embedded: NetworkOutput, batch: InstanceBatch, index: int) -> Float[Tensor, ""]:
        """The ranker's, on the groups of one image of the batch, by inference's settings in turn: grouping every image by all of them would take longer
        than the network."""
        with torch.autocast(self.device.type, enabled=False):
            turn, image = divmod(index // RANKED_EVERY, len(batch.images))
            one = image_of(detached(embedded), image)
            size = (batch.images.shape[2], batch.images.shape[3])
            grouped = self.proposal.grouped(
                one, size, self.proposal.settings[turn % len(self.proposal.settings)]
            )
            quality = quality_of(grouped, truth_on_grid(batch.labels[image], one.points))
            return self.proposal.ranker.loss(describe(grouped, one), quality)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """The ranker's gradients apart from all others: it learns beside the network on detached features, and one bad step of its regression would
        else shorten the embedding's step too."""
        if gradient_clip_val is None:
            return
        clip = (
            torch.nn.utils.clip_grad_value_
            if gradient_clip_algorithm == "value"
            else torch.nn.utils.clip_grad_norm_
        )
        apart = list(self.proposal.ranker.parameters())
        others = [parameter for parameter in self.parameters() if not any(parameter is one for one in apart)]
        for parameters in (apart, others):
            clip(parameters, gradient_clip_val)

    def validation_step(self, batch: InstanceBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def test_step(self, batch: InstanceBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def evaluate_batch(self, batch: InstanceBatch) -> None:
        """Keep one row an image: its proposals, how well its true foreground was grouped, and where the head knows classes, what it says of them."""
        network_size = (batch.images.shape[2], batch.images.shape[3])
        segmenter = self.segmenter
        embedded = segmenter.embed(batch.images)
        # the network may run in half precision; what is measured never does
        with torch.autocast(self.device.type, enabled=False):
            for index, (image_id, size) in enumerate(zip(batch.image_ids, batch.sizes, strict=True)):
                one = image_of(embedded, index)
                proposals, probability = segmenter.propose(one, Geometry(network_size, size))
                row: Row = {"image_id": image_id}
                if self.groups:
                    row |= {
                        "results": proposals.to_coco(image_id, [0]),
                        "figures": self.grouping_figures(one, batch.labels[index]),
                    }
                if self.examiner is not None and probability is not None:
                    row["classes"] = self.examiner.examine(probability, proposals if self.groups else None)
                self.rows.append(row)

    def grouping_figures(
        self, embedded: NetworkOutput, labels: Int64[Tensor, "height width"]
    ) -> dict[str, float]:
        """`ARI-X0` .. `ARI-XT`: agreement of the groups with the true objects on the true foreground, at each iterate of the training's loops;
        `ARI-modes`: after inference's; `margin_violations/X0` .. `margin_violations/XT`: share of pairs of different groups, the background one of them, over
        the margin."""
        flat = labels.flatten()
        centres = pixel_centres((labels.shape[0], labels.shape[1]), labels.device)
        figures: dict[str, float] = {}
        objects = evenly((flat > BACKGROUND).nonzero()[:, 0], EXAMINED)
        if len(objects):
            points = normalise(embedded.points.at(centres[objects][None]))
            truth = flat[objects].cpu().numpy()
            for loop, iterate in enumerate(self.model.grouping(points)):
                modes = find_modes(
                    iterate[0],
                    1.0,
                    iterations=0,
                    merge_tolerance=self.proposal.merge_tolerance,
                    move_tolerance=0.0,
                )
                figures[f"ARI-X{loop}"] = adjusted_rand_index(truth, modes.labels.cpu().numpy())
            modes = self.proposal.modes(points[0], self.proposal.settings[0])
            figures["ARI-modes"] = adjusted_rand_index(truth, modes.labels.cpu().numpy())
        known = evenly((flat != VOID).nonzero()[:, 0], PAIRED)
        if len(torch.unique(flat[known])) > 1:
            points = normalise(embedded.points.at(centres[known][None]))
            for loop, iterate in enumerate(self.model.grouping(points)):
                figures[f"margin_violations/X{loop}"] = share_over_margin(
                    iterate[0], flat[known], self.loss.margin
                )
            figures["cosine-between-X0"] = mean_cosine_between(points[0], flat[known])
        return figures

    def on_validation_epoch_end(self) -> None:
        self.compute_metrics(self.trainer.val_dataloaders.dataset.truth())  # type: ignore[union-attr]
        # images without an object have no recall; the checkpoint still wants its figure
        self.log_dict(
            {self.monitor: float("nan")}
            | {f"val/{name}": value for name, value in self.result.figures.items()}
        )

    def on_test_epoch_end(self) -> None:
        truth = self.trainer.test_dataloaders.dataset.truth()  # type: ignore[union-attr]
        self.compute_metrics(truth)
        # the same on every rank, as the results are; only at the end, since every mask is painted
        if isinstance(self.result, InstanceResult):
            self.result.add_instance_figures()

    def compute_metrics(self, truth: Truth) -> None:
        """From all ranks' rows to `result`, the same on every rank: one row an image, in the order of the image ids."""
        rows, seen = self.gathered_rows(truth)
        category = truth["categories"][0]["id"] if truth["categories"] else 1
        results = [{**result, "category_id": category} for row in rows for result in row["results"]]
        figures = self.by_first(lambda: average_recall(seen, results, self.backend))
        figures |= mean_of([row["figures"] for row in rows]) | counts_of(len(rows), len(results))
        self.result = InstanceResult(
            figures,
            seen,
            results,
            ours=True,
            score_threshold=self.proposal.score_threshold,
            classes=self.class_report(rows, seen),
        )
        if self.result.classes is not None:
            figures |= self.result.classes.figures

    def gathered_rows(self, truth: Truth) -> tuple[list[Row], Truth]:
        """All ranks' rows, one an image in the order of the ids, and the truth of these images; each rank's class maps are counted before."""
        if self.examiner is not None:
            self.examiner.count(
                only_images(truth, {row["image_id"] for row in self.rows}),
                {row["image_id"]: row["classes"] for row in self.rows},
            )
        by_image = {row["image_id"]: row for rows in self.gathered(self.rows) for row in rows}
        self.rows = []
        return [by_image[image_id] for image_id in sorted(by_image)], only_images(truth, by_image)

    def class_report(self, rows: list[Row], seen: Truth) -> ClassReport | None:
        """What the classes of these images came to, the same on every rank; None where the head knows none."""
        if self.examiner is None:
            return None
        examiner, confusion = self.examiner, self.examiner.counted()
        return self.by_first(
            lambda: examiner.report(
                seen, {row["image_id"]: row["classes"] for row in rows}, confusion, self.backend
            )
        )

    @torch.no_grad()
    def calibrate(self, samples: list[Sample]) -> None:
        self.model.embedding.calibrate(self.model.backbone(collate(samples).images)[0])

    def draw_example(self, sample: Sample, folder: Path) -> Path:
        """Image, truth, embedding at each iterate, groups and instances."""
        batch = collate([sample])
        file = folder / f"val-{batch.image_ids[0]}.png"
        draw_sheet(batch, self.segmenter, file)
        return file


def evenly(indices: Int64[Tensor, " pixel"], most: int) -> Int64[Tensor, " some"]:
    """At most so many of them, evenly spaced."""
    if len(indices) <= most:
        return indices
    return indices[
        torch.linspace(0, len(indices) - 1, most, device=indices.device, dtype=torch.float64).long()
    ]


def counts_of(images: int, masks: int) -> dict[str, float]:
    """What the figures are made of."""
    return {"images": float(images), "masks-per-image": masks / max(1, images)}


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the images that have it."""
    names = sorted({name for row in rows for name in row})
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
