"""Show training progress: a bar on a terminal, plain lines elsewhere, and one line per epoch."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from rpe.progress import clock
from rpe.task.base import Task


def name_line(trainer: lightning.Trainer, line: str) -> str:
    """Return the line, prefixed with the job's name in a sweep, whose jobs may run at the same time."""
    folder = Path(trainer.default_root_dir)
    return f"{folder.name}: {line}" if (folder.parent / "sweep.yaml").is_file() else line


class Progress(lightning.Callback):
    """A callback that shows progress, time left, and the metrics of each epoch.

    Args:
        every_seconds: seconds between two plain lines.
    """

    def __init__(self, every_seconds: float) -> None:
        self.every_seconds = every_seconds
        self.bar: Bar | None = None

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.start = self.last = time.monotonic()
        self.first_step: int | None = None
        self.total = (trainer.max_epochs or 0) * int(trainer.num_training_batches)
        if trainer.is_global_zero and sys.stdout.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bar = Bar(*columns, console=Console())
            self.bar.start()
            begun = trainer.current_epoch * int(trainer.num_training_batches)
            self.line = self.bar.add_task("training", total=self.total, completed=begun)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        index: int,
    ) -> None:
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch * int(trainer.num_training_batches) + index + 1
        if self.first_step is None:  # a resumed run may begin in the middle of an epoch
            self.first_step = done - 1
        where = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if self.bar:
            self.bar.update(self.line, completed=done, description=where)
        elif time.monotonic() - self.last > self.every_seconds:
            self.last = time.monotonic()
            left = (self.last - self.start) / (done - self.first_step) * (self.total - done)
            line = f"{where} batch {index + 1}/{int(trainer.num_training_batches)}, {clock(left)} left"
            print(name_line(trainer, line), flush=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        values = trainer.callback_metrics
        assert isinstance(task, Task)
        shown = [("loss", "train/loss"), *((name, f"val/{name}") for name in task.shown)]
        metrics = "  ".join(f"{name} {float(values[key]):.3f}" for name, key in shown if key in values)
        elapsed = clock(time.monotonic() - self.start)
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {metrics}  ({elapsed})"
        if self.bar:
            self.bar.console.print(line, highlight=False)
        else:
            print(name_line(trainer, line), flush=True)

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def on_exception(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, exception: BaseException
    ) -> None:
        self.on_train_end(trainer, task)
