"""The best and the last weights of a run, in its folder wherever that is moved to."""

import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rpe.callback.metrics_csv import MetricsCsv
from rpe.older_runs import with_todays_weights


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints beside which the old one stays until the new one is whole.

    Lightning's own are written into the system's temporary folder and moved: where that is another file system, moving copies, and a process that is
    killed meanwhile leaves half a file under the checkpoint's name. Those of earlier runs are read with today's names.
    """

    def load_checkpoint(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        return with_todays_weights(super().load_checkpoint(*arguments, **options))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        with partial.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)


class Checkpoint(ModelCheckpoint):
    """One file at each epoch's end, written over: the last, or the best by a figure.

    Lightning's own forgets the best score when the folder has another path than the run was started with, and then takes
    the first epoch after resuming for the best.

    Args:
        folder: of the checkpoints.
        filename: without .ckpt.
        monitor: the figure, the higher the better; None keeps the last.
    """

    def __init__(self, folder: Path, filename: str, monitor: str | None) -> None:
        super().__init__(dirpath=folder, filename=filename, monitor=monitor, mode="max", save_on_train_epoch_end=True, enable_version_counter=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Write the epoch's row before the last checkpoint. Lightning logs it after; a run killed in between would resume without it."""
        if self.monitor is None:
            means = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith("val/")}
            for logger in trainer.loggers:
                if isinstance(logger, MetricsCsv):
                    logger.log_metrics({**means, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        super().on_train_epoch_end(trainer, task)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state of the run as if it had always lain here."""
        here = {"dirpath": self.dirpath}
        here |= {name: self.moved(state_dict.get(name, "")) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {self.moved(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": best})

    def moved(self, path: str) -> str:
        """The file of the same name in this run's folder."""
        return str(Path(str(self.dirpath)) / Path(path).name) if path else ""
