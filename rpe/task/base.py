"""What every task shares, and what rpe.run asks of one: it builds, trains and scores a task without knowing which."""

from collections.abc import Callable
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

from rpe.data.module import Split, SplitData

Value = TypeVar("Value")


@dataclass
class Result:
    """What came out of an examination of a split, of a run's weights or of anybody's predictions."""

    figures: dict[str, float]

    def files(self) -> dict[str, str | bytes]:
        """What is written beside metrics.json: paths in the evaluation's folder, and contents."""
        return {}

    def notes(self) -> list[str]:
        """Return lines that explain figures of 0, to be told beside them."""
        return []

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Pictures of it as a whole, into a folder that is there."""


@dataclass(frozen=True)
class Scoring:
    """What an evaluation says of how its figures are made.

    Args:
        backend: what computes them, one of the task's `backends`; they are the same.
        score_threshold: of anybody's masks that become one label map; a run has its own, in `proposal`.
        thresholds: at which anybody's boundary maps are counted; None is the official number.
    """

    backend: str
    score_threshold: float
    thresholds: int | None


class Task(lightning.LightningModule):
    """A network with its loss and its figures.

    `result` is that of the last validation or test. The constructor's parameters that are config groups, and the networks, are built by
    `rpe.run.building`; the others are keys of its YAML.
    """

    monitor: ClassVar[str]
    """The logged figure, the higher the better, by which the best checkpoint is chosen."""

    shown: ClassVar[tuple[str, ...]]
    """The figures of the line that a person sees after each epoch."""

    takes: ClassVar[type[SplitData]]
    """The kind of data that it trains on."""

    backends: ClassVar[tuple[str, ...]] = ("own",)
    """What can compute its figures; the first does unless an evaluation asks for another."""

    def __init__(
        self, optimizer: Callable[[nn.Module], Optimizer], schedule: Callable[[float], float]
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.schedule = schedule
        self.result = Result({})
        self.backend = self.backends[0]

    def check_dataset(self, dataset: Split) -> None:
        """Refuse a split that this network cannot be trained or examined on; raises `UserError` before either starts."""

    def calibrate(self, samples: list[Any]) -> None:
        """Start the embedding from what the untrained network makes of these samples; see `Embedding.calibrate`."""
        raise NotImplementedError

    def draw_example(self, sample: Any, folder: Path) -> Path:
        """Draw what the network makes of one item of a dataset; returns the file."""
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
        """Anybody's predictions for a split.

        Args:
            folder: may keep what a scoring that is stopped needs to go on.
            names: of the images that count, without folder and suffix; None is all of the split.
            scoring: its backend is one of `backends`.

        Raises:
            UserError: they cannot be scored.
        """
        raise NotImplementedError

    def gathered(self, mine: Value) -> list[Value]:
        """What each rank has, the same list on every rank."""
        if self.trainer.world_size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, mine)
        return everyone

    def by_first(self, make: Callable[[], Value]) -> Value:
        """What the first rank makes, on every rank."""
        made = [make() if self.trainer.is_global_zero else None]
        if self.trainer.world_size > 1:
            torch.distributed.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def log_term_gradients(self, terms: dict[str, Float[Tensor, ""]], at: Tensor) -> None:
        """Log `term-gradient/<term>`: the Euclidean norm of each term's gradient with respect to what the network's heads share.

        Terms are summed under one clip, so a term whose norm is far below the others' is starved.
        """
        learned = {name: term for name, term in terms.items() if term.requires_grad}
        for name, term in learned.items():
            (gradient,) = torch.autograd.grad(term, at, retain_graph=True, allow_unused=True)
            norm = at.new_zeros(()) if gradient is None else torch.linalg.vector_norm(gradient)
            self.log(
                f"term-gradient/{name}", norm, on_step=False, on_epoch=True, sync_dist=True, batch_size=1
            )

    def logged_sum(self, terms: dict[str, Float[Tensor, ""]], images: int) -> Float[Tensor, ""]:
        """The loss: the sum of its terms, each of which is logged."""
        total = torch.stack(list(terms.values())).sum()
        logged = {f"train/{name}": value.detach() for name, value in terms.items()} | {
            "train/loss": total.detach()
        }
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=images, sync_dist=True)
        return total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer(self)
        total = self.total_steps()
        scheduler = LambdaLR(optimizer, lambda step: self.schedule(step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> int:
        """Optimiser steps of the whole training; `estimated_stepping_batches` is not read, as it costs Lightning its loader's state."""
        data: SplitData = self.trainer.datamodule  # type: ignore[attr-defined]
        batches = len(data.dataset("train", training=True)) // self.trainer.world_size // data.batch_size
        limit = self.trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps = -(-batches // self.trainer.accumulate_grad_batches)
        return max(1, steps * (self.trainer.max_epochs or 1))
