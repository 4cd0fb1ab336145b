"""Boundary detection: train on the annotators' boundaries, score maps by the protocol of BSDS500."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from rpe.data.bsds import BoundarySample, Bsds, collate_boundaries
from rpe.data.module import SplitData, make_generator
from rpe.loss import BoundaryLoss
from rpe.metric.boundary.score import Scored, score_folder, score_maps
from rpe.network.model import BoundaryDetector
from rpe.overlay import encode_png
from rpe.picture.curve import PUBLISHED, draw_curve
from rpe.picture.sheet import draw_boundaries
from rpe.segment.boundary_map import Detection, suppress_non_maxima
from rpe.structures import BoundaryBatch, UserError
from rpe.task.base import Result, Scoring, Task

OFFICIAL = 99
"""Number of thresholds of the official benchmark."""

TEST_IMAGES = 200
"""Test images of BSDS500; published values are measured on all of them."""


@dataclass
class BoundaryResult(Result):
    """Metrics of boundary maps against the annotations.

    Args:
        scored: counts and tables of the maps.
        maps: the maps of a run by image name, 0 to 255; empty for maps read from a folder.
        thinning: see `Scoring`.
    """

    scored: Scored
    maps: dict[str, np.ndarray]
    thinning: bool = True

    def files(self) -> dict[str, str | bytes]:
        """Return `thresholds.csv`, `images.csv` and, of a run, `maps/<name>.png`.

        `evaluate.py task=boundary predictions=<maps>` computes the same metrics from the maps.
        """
        maps = {f"maps/{name}.png": encode_png(values) for name, values in self.maps.items()}
        return self.scored.tables() | maps

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Draw `precision-recall.png`.

        Published results are drawn for the whole test split by the official protocol only.
        """
        whole = data.name == "bsds" and split == "test" and len(self.scored.names) == TEST_IMAGES
        official = self.thinning and len(self.scored.thresholds) == OFFICIAL
        published = PUBLISHED if whole and official else {}
        name = "ours" if self.maps else "predictions"
        draw_curve(
            {name: self.scored.curve()},
            {name: self.metrics["ODS"]},
            published,
            folder / "precision-recall.png",
        )


class BoundaryTask(Task):
    """Boundary detection: one boundary map for each image.

    Args:
        model: the network.
        loss: minimised by training.
        detection: turns the network's output into a map, at inference.
        optimizer, schedule: see `Task`.
        seed: of the drawn pixels.
        val_thresholds: number of thresholds of a validation. The official 99 take ten times as long as 9.

    Raises:
        UserError: val_thresholds is below 2.
    """

    monitor = "val/ODS"
    shown = ("ODS", "OIS", "AP")
    takes = Bsds

    def __init__(
        self,
        model: BoundaryDetector,
        loss: BoundaryLoss,
        detection: Detection,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[float], float],
        seed: int,
        val_thresholds: int,
    ) -> None:
        super().__init__(optimizer, schedule)
        if val_thresholds < 2:
            raise UserError(
                f"task.val_thresholds must be >= 2, got {val_thresholds}. A curve needs two points."
            )
        self.model, self.loss, self.detection = model, loss, detection
        self.seed, self.val_thresholds = seed, val_thresholds
        self.maps: dict[str, np.ndarray] = {}

    @staticmethod
    def score(
        data: SplitData,
        split: str,
        predictions: Path,
        folder: Path,
        names: list[str | int] | None,
        scoring: Scoring,
    ) -> BoundaryResult:
        """Return ODS, OIS and AP of a folder of maps.

        An interrupted scoring resumes from the images counted before.
        """
        assert isinstance(data, Bsds)
        truths = {name: truth for name, (_, truth) in data.files(split).items()}
        scored = score_folder(
            predictions,
            truths,
            folder / "journal",
            scoring.thresholds or OFFICIAL,
            names,
            thinning=scoring.thinning,
        )
        return BoundaryResult(scored.metrics, scored, {}, scoring.thinning)

    def training_step(self, batch: BoundaryBatch, index: int) -> Float[Tensor, ""]:
        # seeded by the step, so a resumed run draws the pixels of an uninterrupted one
        seed = make_generator(self.seed, self.current_epoch, index, self.global_rank).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        positions, groups = self.loss.pairwise.choose_pixels(self.loss.groups_of(batch, generator), generator)
        if self.loss.pairwise.weight:
            found, iterates = self.model(batch.images, positions)
        else:
            found, iterates = self.model.detect(batch.images), []
        terms = self.loss(iterates, positions, groups, found, batch)
        return self.log_loss(terms, len(batch.images))

    def validation_step(self, batch: BoundaryBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def test_step(self, batch: BoundaryBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def evaluate_batch(self, batch: BoundaryBatch) -> None:
        """Keep the map of each image."""
        for image, name, (height, width) in zip(batch.images, batch.names, batch.sizes, strict=True):
            self.maps[name] = self.detection(self.model.detect, image[:, :height, :width])

    def on_validation_epoch_end(self) -> None:
        truth = self.trainer.val_dataloaders.dataset.truth()  # type: ignore[union-attr]
        self.compute_metrics(truth, self.val_thresholds)
        self.log_dict({f"val/{name}": value for name, value in self.result.metrics.items()})

    def on_test_epoch_end(self) -> None:
        truth = self.trainer.test_dataloaders.dataset.truth()  # type: ignore[union-attr]
        self.compute_metrics(truth, OFFICIAL)

    def compute_metrics(self, truth: dict[str, Any], thresholds: int) -> None:
        """Set `result` from all ranks' maps; see `compute_on_first`."""
        by_rank = self.gather_on_first(self.maps)
        maps = dict(sorted((name, values) for part in by_rank for name, values in part.items()))
        self.maps = {}

        def score() -> BoundaryResult:
            progress = thresholds == OFFICIAL  # takes minutes, a validation seconds
            truths = {name: truth["files"][name][1] for name in maps}
            scored = score_maps(maps, truths, thresholds, progress)
            return BoundaryResult(scored.metrics, scored, maps)

        self.result = self.compute_on_first(score)

    @torch.no_grad()
    def initialise_from_data(self, samples: list[BoundarySample]) -> None:
        """Initialise each stage's embedding from features of the untrained network."""
        images = collate_boundaries(samples).images
        for embedding, stage in zip(self.model.embeddings, self.model.backbone(images), strict=True):
            embedding.initialise_from_data(stage)  # type: ignore[operator]

    def draw_example(self, sample: BoundarySample, folder: Path) -> Path:
        """Draw image, truth, each stage's embedding, and the map before and after non-maximum suppression."""
        batch = collate_boundaries([sample])
        with torch.no_grad():
            image = batch.images[0].to(next(self.model.parameters()))
            found = self.model.detect(image[None])
            strength = self.detection.probability(self.model.detect, image)
        file = folder / f"val-{sample.name}.png"
        draw_boundaries(
            sample.image,
            sample.labels,
            [stage.values[0].cpu() for stage in found.points],
            strength,
            suppress_non_maxima(strength),
            file,
        )
        return file
