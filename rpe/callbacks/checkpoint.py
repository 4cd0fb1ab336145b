"""Save the best and the last weights of a run, in its folder even after that was moved."""

import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rpe.callbacks.metrics_csv import MetricsCsv
from rpe.older_runs import with_todays_weights


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint files that replace the old one only once the new one is complete.

    Lightning writes into the system's temporary folder, then moves the file. On another file system the move
    is a copy, and a process that is killed meanwhile leaves half a checkpoint. Checkpoints of earlier runs
    are read with today's names.
    """

    def load_checkpoint(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        return with_todays_weights(super().load_checkpoint(*arguments, **options))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        with partial.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)


class Checkpoint(ModelCheckpoint):
    """One checkpoint file, overwritten at the end of an epoch: the last, or the best by a metric.

    Lightning's own callback forgets the best score if the folder was moved since the start of the run. It
    then takes the first epoch after resuming as the best.

    Args:
        folder: folder of the checkpoints.
        filename: without .ckpt.
        monitor: the metric, where higher is better; None keeps the last checkpoint.
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

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Write the epoch's row before the last checkpoint.

        Lightning logs it afterwards, so a run killed in between would resume without it.
        """
        if self.monitor is None:
            metrics = trainer.callback_metrics.items()
            means = {name: float(value) for name, value in metrics if not name.startswith("val/")}
            for logger in trainer.loggers:
                if isinstance(logger, MetricsCsv):
                    logger.log_metrics({**means, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        super().on_train_epoch_end(trainer, task)

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
