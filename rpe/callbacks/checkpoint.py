"""Save the best and the last weights of a run, in its folder even after that was moved."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rpe.callbacks.metrics_csv import MetricsCsv
from rpe.older_runs import with_todays_weights
from rpe.run_files import open_whole
from rpe.structures import UserError


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint files that replace the old one only once the new one is complete.

    Lightning writes into the system's temporary folder, then moves the file. On another file system the move
    is a copy, and a process that is killed meanwhile leaves half a checkpoint. Checkpoints of earlier runs
    are read with today's names.
    """

    def load_checkpoint(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Load a checkpoint, its weights renamed to today's names."""
        return with_todays_weights(super().load_checkpoint(*arguments, **options))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint as a whole file, or not at all."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with open_whole(file, "wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())


class Checkpoint(ModelCheckpoint):
    """One checkpoint file, overwritten at the end of an epoch: the best by a metric, or each.

    Lightning's own callback forgets the best score if the folder was moved since the start of the run. It
    then takes the first epoch after resuming as the best.

    Args:
        folder: folder of the checkpoints.
        filename: without .ckpt.
        monitor: the metric, where higher is better; None saves each epoch.
    """

    def __init__(self, folder: Path, filename: str, monitor: str | None) -> None:
        super().__init__(
            dirpath=folder,
            filename=filename,
            monitor=monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, with all paths moved to this run's folder."""
        here = {"dirpath": self.dirpath}
        here |= {
            name: self.relocate(state_dict.get(name, ""))
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        best = {self.relocate(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": best})

    def relocate(self, path: str) -> str:
        """Return the path of the same file name in this run's folder."""
        return str(Path(str(self.dirpath)) / Path(path).name) if path else ""


class LastCheckpoint(Checkpoint):
    """The last checkpoint, written at the end of an epoch, every few minutes, and on SIGTERM.

    SIGTERM ends the training after the step in which it arrives, or after the validation. With gradient
    accumulation a step is an optimizer's step. Several ranks agree in each step, as they would otherwise
    wait for each other.

    A checkpoint in the middle of an epoch is complete: it holds the position in the epoch and all sums over
    the epoch, and random numbers depend on the step. It is not written where a validation may lie in the
    middle of an epoch, as Lightning does not continue exactly there.

    Args:
        folder: folder of the checkpoints.
        minutes: time between two checkpoints in an epoch; None writes them at its end only.

    Raises:
        UserError: minutes is not positive.
    """

    def __init__(self, folder: Path, minutes: float | int | None) -> None:
        if minutes is not None and not minutes > 0:
            raise UserError(
                f"checkpoint_minutes must be > 0, got {minutes}. null saves at the end of each epoch only."
            )
        super().__init__(folder, filename="last", monitor=None)
        self.file = folder / "last.ckpt"
        self.seconds = None if minutes is None else 60 * minutes
        self.terminated = False

    @property
    def state_key(self) -> str:
        """Return the name of the state in a checkpoint, which is that of earlier runs."""
        return super().state_key.removeprefix("Last")

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Take note of SIGTERM instead of Lightning, whose handler of several ranks may block.

        Lightning restores the earlier handlers after the training.
        """
        super().on_train_start(trainer, task)
        self.saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.note_sigterm)

    def note_sigterm(self, *_: Any) -> None:
        """Remember that SIGTERM has arrived."""
        self.terminated = True

    def highest_of_ranks(self, trainer: lightning.Trainer, value: int) -> int:
        """Return the highest value of all ranks."""
        if trainer.world_size == 1:
            return value
        values = torch.tensor(value, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(values, reduce_op="max"))  # type: ignore[arg-type]

    def end_if_terminated(self, trainer: lightning.Trainer) -> None:
        """End the training on all ranks if one has received SIGTERM."""
        if self.highest_of_ranks(trainer, int(self.terminated)):
            raise SIGTERMException

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        index: int,
    ) -> None:
        """Save in the middle of an epoch where it is due or the training ends."""
        if trainer.is_last_batch or (index + 1) % trainer.accumulate_grad_batches:
            return
        due = self.seconds is not None and time.monotonic() - self.saved > self.seconds
        reason = self.highest_of_ranks(trainer, 2 * self.terminated + due)
        if reason and trainer.val_check_batch == trainer.num_training_batches:
            trainer.save_checkpoint(self.file, weights_only=False)
            self.saved = time.monotonic()
        if reason >= 2:
            raise SIGTERMException

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Write the epoch's row before the checkpoint.

        Lightning logs it afterwards, so a run killed in between would resume without it.
        """
        metrics = trainer.callback_metrics.items()
        means = {name: float(value) for name, value in metrics if not name.startswith("val/")}
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.log_metrics({**means, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        super().on_train_epoch_end(trainer, task)
        self.saved = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.end_if_terminated(trainer)

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        super().on_train_end(trainer, task)
        self.end_if_terminated(trainer)
