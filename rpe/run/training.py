"""train(config): a new run or one that goes on, then its test."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rpe.callback.checkpoint import Checkpoint
from rpe.data.module import SPLITS, SplitData
from rpe.record import pictures_of, read_run, remember_changes, run_folder, write_whole
from rpe.run.building import build_data, build_named, build_task, build_trainer, check_config, check_pair, task_class
from rpe.run.door import plainly
from rpe.run.folder import checkpoint_of, load_weights, provenance, write_figures
from rpe.structures import InputError
from rpe.task.base import Task

RESUMABLE = ("resume", "trainer.max_epochs", "trainer.devices", "trainer.accelerator", "logger")
"""What may be said beside `resume=`; `logger` with all below it."""


@plainly
def train(config: DictConfig) -> dict[str, float]:
    """Train, test with the best weights, write everything into the run folder; returns the test figures.

    Raises:
        InputError: a user's slip; before training starts wherever that is possible.
    """
    started = time.monotonic()
    folder = Path(HydraConfig.get().runtime.output_dir)
    resume = config.resume
    changes: dict[str, Any] = {}
    if resume is not None:
        config, changes = resumed_config(config)
    check_config(config)
    if resume is None:
        start_folder(config, folder)
    trainer = build_training(config, folder)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config)
    check_pair(task_class(config), data, config)
    task = build_task(config)
    for split in SPLITS:
        task.check_dataset(data.dataset(split, training=split == "train"))
    if resume is not None:
        check_progress(load_weights(task, folder / "checkpoints" / "last.ckpt"), config.trainer.max_epochs)
        remember_changes(folder, changes)
    elif config.init is not None:
        load_weights(task, checkpoint_of(config.init))
    return fit_and_test(config, folder, trainer, data, task, started)


def resumed_config(config: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """The interrupted run's config with the few overrides that a resumed run may have, and these by dotted key.

    Raises:
        InputError: another override, or no checkpoint to go on from.
    """
    hydra = HydraConfig.get()
    overrides = [override for override in hydra.overrides.task if not override.startswith("resume=") and override != "logger=run"]
    for override in [*overrides, *(text for text in hydra.overrides.hydra if not text.startswith("hydra.mode"))]:
        key = override.split("=")[0].lstrip("+~")
        if key not in RESUMABLE and not key.startswith("logger."):
            raise InputError(
                f"{override} cannot change while resuming, only {', '.join(RESUMABLE[1:])}: "
                f"for other settings start a new run with init={config.resume}"
            )
    keys = {override.split("=")[0].lstrip("+~") for override in overrides}
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    changes = {key: plain["trainer"][key.removeprefix("trainer.")] for key in sorted(keys) if key.startswith("trainer.")}
    if any(key.split(".")[0] == "logger" for key in keys):
        changes["logger"] = plain["logger"]
    saved = without_downloads(OmegaConf.create(read_run(config.resume)))
    for node, value in changes.items():
        OmegaConf.update(saved, node, value, merge=False)
    if not (run_folder(config.resume) / "checkpoints" / "last.ckpt").is_file():
        raise InputError(f"{config.resume} has no checkpoints/last.ckpt: it stopped before its first epoch ended; start it anew")
    return saved, changes


def without_downloads(config: DictConfig) -> DictConfig:
    """A config whose backbone starts from nothing, since the checkpoint brings all weights."""
    if "weights" in config.get("backbone", {}):
        config.backbone.weights = None
    return config


def start_folder(config: DictConfig, folder: Path) -> None:
    """Write down what the new run is, before anything of it exists.

    Raises:
        InputError: the folder holds a run already.
    """
    if (folder / "checkpoints").exists() and os.environ.get("LOCAL_RANK", "0") == "0":
        raise InputError(f"{folder} holds a run already: go on with it by resume={folder}, or name another folder")
    if "root" in config.data:
        config.data.root = str(Path(config.data.root).absolute())  # the run may be resumed or evaluated from another folder
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    write_whole(folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False))


def check_progress(checkpoint: dict[str, Any], epochs: int) -> None:
    """Refuse to go on towards fewer epochs than are done.

    Raises:
        InputError: naming both numbers.
    """
    done = int(checkpoint["epoch"]) + 1
    if epochs < done:
        raise InputError(f"trainer.max_epochs {epochs} is below the {done} epochs that the run has trained: name {done} or more")


def build_training(config: DictConfig, folder: Path) -> lightning.Trainer:
    """The trainer with all that watches it, and two checkpoints: the best and the last."""
    # two, as save_last writes only when the best is written; each overwrites its one file
    checkpoints = [
        Checkpoint(folder / "checkpoints", filename="best", monitor=task_class(config).monitor),
        Checkpoint(folder / "checkpoints", filename="last", monitor=None),
    ]
    callbacks = [*build_named(config, "callback"), *checkpoints]
    return build_trainer(config, folder, callbacks, build_named(config, "logger", save_dir=str(folder)))


def fit_and_test(config: DictConfig, folder: Path, trainer: lightning.Trainer, data: SplitData, task: Task, started: float) -> dict[str, float]:
    """The training itself, and the test with its best weights."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    try:
        for logger in trainer.loggers:
            logger.log_hyperparams(plain)
        trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        if trainer.is_global_zero and not last.exists():
            trainer.save_checkpoint(last)  # no epoch was asked for: the weights are the initial ones
        load_weights(task, best if best.exists() else last)
        trainer.test(task, datamodule=data, verbose=False)
    finally:
        finish_wandb(failed=sys.exc_info()[0] is not None)
    if trainer.is_global_zero:
        task.result.draw(pictures_of(folder), data, "test")
        write_figures(folder, task.result.figures, provenance(plain, "test", started), f"{data.name} test")
    return task.result.figures


def finish_wandb(failed: bool) -> None:
    """End wandb's run, or the next job of this process would write into it."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=int(failed))
