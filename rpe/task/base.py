"""What every task shares, and what rpe.run asks of one: it builds, trains and scores a task without knowing which."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import lightning
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rpe.data.module import SplitData


class Task(lightning.LightningModule):
    """A network with its loss and its figures.

    `figures` holds the figures of the last validation or test. The constructor's parameters that are config groups, and `model`, are built by
    `rpe.run.building`; the others are keys of its YAML.
    """

    monitor: ClassVar[str]
    """The logged figure, the higher the better, by which the best checkpoint is chosen."""

    shown: ClassVar[tuple[str, ...]]
    """The figures of the line that a person sees after each epoch."""

    takes: ClassVar[type[SplitData]]
    """The kind of data that it trains on."""

    def __init__(self, optimizer: Callable[[Iterable[Tensor]], Optimizer], schedule: Callable[[float], float]) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.schedule = schedule
        self.figures: dict[str, float] = {}

    def files(self) -> dict[str, str]:
        """What an evaluation writes beside metrics.json: names and contents."""
        return {}

    def draw(self, folder: Path, data: SplitData, split: str) -> None:
        """Pictures of the last test as a whole, into a folder that is there."""

    @staticmethod
    def score(data: SplitData, split: str, predictions: Path, folder: Path) -> dict[str, float]:
        """The figures of anybody's predictions for a split, with pictures into the folder; raises `InputError` where they cannot be scored."""
        raise NotImplementedError

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer(self.parameters())
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
