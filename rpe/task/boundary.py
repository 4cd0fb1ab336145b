"""Boundary detection: train on the annotators' boundaries, score maps as BSDS500 does."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from rpe.data.bsds import BoundarySample, Bsds, collate_boundaries
from rpe.data.module import SplitData, generator_of
from rpe.loss import BoundaryLoss
from rpe.metric.boundary.score import Scored, score_folder, score_maps
from rpe.network.model import BoundaryDetector
from rpe.picture.curve import PUBLISHED, draw_curve
from rpe.picture.sheet import draw_boundaries
from rpe.segment.boundary_map import Detection, suppressed
from rpe.structures import BoundaryBatch, UserError
from rpe.task.base import Result, Scoring, Task

OFFICIAL = 99
"""Thresholds of the benchmark."""

TEST_IMAGES = 200
"""Of BSDS500: what is published was measured on all of them."""


@dataclass
class BoundaryResult(Result):
    """The maps' figures and tables, and the maps themselves where they are ours."""

    scored: Scored
    maps: dict[str, np.ndarray]

    def files(self) -> dict[str, str | bytes]:
        """`thresholds.csv`, `images.csv` and `maps/<name>.png`: `evaluate.py task=boundary predictions=<maps>` gives the same figures."""
        return self.scored.tables() | {f"maps/{name}.png": png(values) for name, values in self.maps.items()}

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """`precision-recall.png`; the published results stand beside the whole test split at the official thresholds."""
        whole = data.name == "bsds" and split == "test" and len(self.scored.names) == TEST_IMAGES
        published = PUBLISHED if whole and len(self.scored.thresholds) == OFFICIAL else {}
        name = "ours" if self.maps else "predictions"
        draw_curve(
            {name: self.scored.curve()},
            {name: self.figures["ODS"]},
            published,
            folder / "precision-recall.png",
        )


class BoundaryTask(Task):
    """A boundary map for each image; see `BoundaryLoss` for what it is taught.

    Args:
        detector: the network.
        loss: what training minimises.
        detection: how inference makes a map of the network's answer.
        optimizer, schedule: see `Task`.
        seed: of the pixels that are drawn.
        val_thresholds: at which maps are scored while training: the official 99 take ten times as long as 9.
    """

    monitor = "val/ODS"
    shown = ("ODS", "OIS", "AP")
    takes = Bsds

    def __init__(
        self,
        detector: BoundaryDetector,
        loss: BoundaryLoss,
        detection: Detection,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[float], float],
        seed: int,
        val_thresholds: int,
    ) -> None:
        super().__init__(optimizer, schedule)
        if val_thresholds < 2:
            raise UserError(f"task.val_thresholds {val_thresholds} makes no curve: name 2 or more")
        self.detector, self.loss, self.detection = detector, loss, detection
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
        """ODS, OIS and AP of a folder of maps; what was counted before the program was stopped is not counted again."""
        assert isinstance(data, Bsds)
        truths = {name: truth for name, (_, truth) in data.files(split).items()}
        scored = score_folder(predictions, truths, folder / "journal", scoring.thresholds or OFFICIAL, names)
        return BoundaryResult(scored.figures, scored, {})

    def training_step(self, batch: BoundaryBatch, index: int) -> Float[Tensor, ""]:
        # a function of the step alone, so that a resumed run draws what the uninterrupted one would have drawn
        seed = generator_of(self.seed, self.current_epoch, index, self.global_rank).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        positions, groups = self.loss.choose_pixels(self.loss.groups_of(batch, generator), generator)
        if self.loss.pairwise_weight:
            found, iterates = self.detector(batch.images, positions)
        else:
            found, iterates = self.detector.detect(batch.images), []
        terms = self.loss(iterates, positions, groups, found.stages, found.fused, batch.labels)
        return self.logged_sum(terms, len(batch.images))

    def validation_step(self, batch: BoundaryBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def test_step(self, batch: BoundaryBatch, index: int) -> None:
        self.evaluate_batch(batch)

    def evaluate_batch(self, batch: BoundaryBatch) -> None:
        """Keep the map of each image."""
        for image, name, (height, width) in zip(batch.images, batch.names, batch.sizes, strict=True):
            self.maps[name] = self.detection(self.detector.detect, image[:, :height, :width])

    def on_validation_epoch_end(self) -> None:
        self.compute_metrics(self.trainer.val_dataloaders.dataset.truth(), self.val_thresholds)  # type: ignore[union-attr]
        self.log_dict({f"val/{name}": value for name, value in self.result.figures.items()})

    def on_test_epoch_end(self) -> None:
        self.compute_metrics(self.trainer.test_dataloaders.dataset.truth(), OFFICIAL)  # type: ignore[union-attr]

    def compute_metrics(self, truth: dict[str, Any], thresholds: int) -> None:
        """From all ranks' maps to `result`, the same on every rank."""
        maps = dict(
            sorted((name, values) for part in self.gathered(self.maps) for name, values in part.items())
        )
        self.maps = {}
        official = thresholds == OFFICIAL  # minutes, where a validation takes seconds
        scored = self.by_first(
            lambda: score_maps(maps, {name: truth["files"][name][1] for name in maps}, thresholds, official)
        )
        self.result = BoundaryResult(scored.figures, scored, maps)

    @torch.no_grad()
    def calibrate(self, samples: list[BoundarySample]) -> None:
        images = collate_boundaries(samples).images
        for embedding, stage in zip(self.detector.embeddings, self.detector.backbone(images), strict=True):
            embedding.calibrate(stage)  # type: ignore[operator]

    def draw_example(self, sample: BoundarySample, folder: Path) -> Path:
        """Image, truth, the stages' embeddings, the map before and after suppression."""
        batch = collate_boundaries([sample])
        with torch.no_grad():
            image = batch.images[0].to(self.device)
            found = self.detector.detect(image[None])
            strength = self.detection.probability(self.detector.detect, image)
        file = folder / f"val-{sample.name}.png"
        draw_boundaries(
            sample.image,
            sample.labels,
            [stage.values[0].cpu() for stage in found.points],
            strength,
            suppressed(strength),
            file,
        )
        return file


def png(values: np.ndarray) -> bytes:
    """A map as an 8-bit PNG."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()
