"""Base class of all tasks. `rpe.run` builds, trains and scores a task through it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rpe.data.module import Split, SplitData, make_generator
from rpe.structures import UserError
from rpe.task.epoch_means import EpochMeans

Value = TypeVar("Value")

MEANS = "epoch_means"
"""Key in a checkpoint, written in the middle of an epoch: each rank's sums of the values to log."""


@dataclass
class Result:
    """Result of the evaluation of a split, for the weights of a run or for a file of predictions."""

    metrics: dict[str, float]

    def files(self) -> Mapping[str, str | bytes | Iterable[str]]:
        """Return further files of the evaluation's folder: contents by path, whole or part by part."""
        return {}

    def notes(self) -> list[str]:
        """Return lines that explain metrics of 0; they are printed beside the metrics."""
        return []

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Draw pictures of the whole result into an existing folder."""


@dataclass(frozen=True)
class Scoring:
    """Options of an evaluation that change how its metrics are computed.

    Args:
        backend: implementation of the metrics, one of the task's `backends`. All give the same values.
        score_threshold: lowest score of masks that enter the label map, for masks read from a file. A run has
            its own in `proposal`.
        thresholds: number of thresholds for boundary maps read from a folder; None is the official number.
        thinning: thin boundary masks read from a folder before they are matched, as the protocol does.
    """

    backend: str
    score_threshold: float
    thresholds: int | None
    thinning: bool = True


class Task(lightning.LightningModule):
    """A network with its loss and its metrics.

    `result` belongs to the last validation or test. `rpe.run.building` builds the constructor's parameters
    that are networks or config groups. The other parameters are keys of the task's YAML.
    """

    monitor: ClassVar[str]
    """Logged metric that chooses the best checkpoint; higher is better."""

    shown: ClassVar[tuple[str, ...]]
    """Metrics of the line printed after each epoch."""

    takes: ClassVar[type[SplitData]]
    """Class of the data it trains on."""

    backends: ClassVar[tuple[str, ...]] = ("own",)
    """Implementations of its metrics; the first is the default."""

    seed: int
    """Seed of everything that a training step draws."""

    def __init__(
        self, optimizer: Callable[[nn.Module], Optimizer], schedule: Callable[[float], float]
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.schedule = schedule
        self.result = Result({})
        self.backend = self.backends[0]
        self.means = EpochMeans()

    def check_dataset(self, dataset: Split) -> None:
        """Check that this network can be trained and evaluated on a split, before either starts.

        Raises:
            UserError: it cannot.
        """

    def initialise_from_data(self, samples: list[Any]) -> None:
        """Initialise the embedding from features of the untrained network."""
        raise NotImplementedError

    def draw_example(self, sample: Any, folder: Path) -> Path:
        """Draw the network's output for one item of a dataset; return the file."""
        raise NotImplementedError

    @staticmethod
    def score(
        data: SplitData,
        split: str,
        predictions: Path,
        folder: Path,
        names: list[str | int] | None,
        scoring: Scoring,
    ) -> Result:
        """Score predictions for a split, read from a file or a folder.

        Args:
            folder: may hold files from which an interrupted scoring resumes.
            names: names of the scored images, without folder and suffix; None is the whole split.
            scoring: its backend is one of `backends`.

        Raises:
            UserError: the predictions cannot be scored.
        """
        raise NotImplementedError

    def gather_ranks(self, mine: Value) -> list[Value]:
        """Return the values of all ranks in order of rank, the same list on every rank."""
        if self.trainer.world_size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, mine)
        return everyone

    def gather_on_first(self, mine: Value) -> list[Value]:
        """Return the values of all ranks in order of rank on the first rank, an empty list on all others.

        One rank sends at a time, so the first one holds a single share twice.
        """
        if not self.trainer.is_global_zero:
            torch.distributed.send_object_list([mine], dst=0)
            return []
        values, received = [mine], [mine]
        for rank in range(1, self.trainer.world_size):
            torch.distributed.recv_object_list(received, src=rank)
            values.append(received[0])
        return values

    def compute_on_first(self, make: Callable[[], Result]) -> Result:
        """Return the result that `make` gives on the first rank; on all others its metrics alone."""
        result = make() if self.trainer.is_global_zero else Result({})
        if self.trainer.world_size > 1:
            metrics = [result.metrics]
            torch.distributed.broadcast_object_list(metrics, src=0)
            result.metrics = metrics[0]
        return result

    def log_term_gradients(self, terms: dict[str, Float[Tensor, ""]], at: Tensor) -> None:
        """Log `term-gradient/<term>`, the norm of a loss term's gradient at the features shared by all heads.

        Gradient clipping acts on the sum of the terms. So a term whose norm is far below the others' hardly
        trains.
        """
        learned = {name: term for name, term in terms.items() if term.requires_grad}
        for name, term in learned.items():
            (gradient,) = torch.autograd.grad(term, at, retain_graph=True, allow_unused=True)
            norm = at.new_zeros(()) if gradient is None else torch.linalg.vector_norm(gradient)
            self.means.add({f"term-gradient/{name}": norm}, 1)

    def log_loss(self, terms: dict[str, Float[Tensor, ""]], images: int) -> Float[Tensor, ""]:
        """Log the terms of the loss and their sum; return the sum."""
        total = torch.stack(list(terms.values())).sum()
        self.means.add(
            {f"train/{name}": value for name, value in terms.items()} | {"train/loss": total}, images
        )
        return total

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Seed what a network draws, such as dropout, by the step. A resumed run then draws the same."""
        seed = make_generator(self.seed, 2, self.current_epoch, index, self.global_rank).integers(2**62)
        torch.manual_seed(int(seed))

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        """Log the epoch's means with its last step."""
        if self.trainer.is_last_batch:
            means = self.means.pop(self.device)
            self.log_dict(means, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.means.sums:
            checkpoint[MEANS] = self.gather_ranks(self.means.state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if MEANS in checkpoint:
            self.means.sums = checkpoint[MEANS][self.global_rank]

    def on_train_epoch_end(self) -> None:
        """Stop a training that has diverged, before its weights replace the last checkpoint.

        Raises:
            UserError: the epoch's mean loss is NaN or infinite.
        """
        loss = self.trainer.callback_metrics.get("train/loss")  # none where the epoch was interrupted
        if loss is not None and not loss.isfinite():
            raise UserError(
                f"the loss must stay finite, got {float(loss)} in epoch {self.current_epoch + 1}. "
                "Lower optimizer.lr and train again, or set precision=full if it was another."
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer(self)
        total = self.total_steps()
        scheduler = LambdaLR(optimizer, lambda step: self.schedule(step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> int:
        """Return the number of optimiser steps of the whole training.

        Lightning's `estimated_stepping_batches` would build the training loader early and lose its state.
        """
        data: SplitData = self.trainer.datamodule  # type: ignore[attr-defined]
        batches = len(data.dataset("train", training=True)) // self.trainer.world_size // data.batch_size
        limit = self.trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = -(-batches // self.trainer.accumulate_grad_batches)
        return max(1, steps * (self.trainer.max_epochs or 1))
