"""A training: a new run or one that goes on, then its test."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rpe.callback.agreement import Agreement
from rpe.callback.checkpoint import Checkpoint
from rpe.callback.wandb_run import wandb_runs
from rpe.data.module import SPLITS, SplitData
from rpe.network.backbone.encoder import CHECKPOINT
from rpe.run.building import build_data, build_named, build_task, build_trainer, check_config, check_pair, task_class
from rpe.run.folder import checkpoint_of, fingerprint_of, load_weights, provenance, write_figures
from rpe.run.lock import free_gpu
from rpe.run.sweep import key_of
from rpe.run_files import pictures_of, read_run, remember_changes, run_folder, write_whole
from rpe.structures import UserError
from rpe.task.base import Task

RESUMABLE = ("resume", "trainer.max_epochs", "trainer.devices", "trainer.accelerator", "logger")
"""What may be said beside `resume=`; `logger` with all below it."""


def train_run(config: DictConfig, folder: Path, going_on: bool) -> float | None:
    """Train, test with the best weights, write everything into the run folder.

    Args:
        config: of this process; with `resume`, what is said beside it.
        folder: that is there.
        going_on: from the folder's last checkpoint, although nobody said `resume`.

    Returns:
        The best validation score: the monitored metric of the best checkpoint; None where no epoch was validated.

    Raises:
        UserError: a user's mistake; before training starts wherever that is possible.
    """
    started = time.monotonic()
    changes: dict[str, Any] = {}
    if config.resume is not None:
        config, changes = resumed_config(config)
        going_on = True
    check_config(config)
    make_root_absolute(config)
    if not going_on:
        check_unused(folder)
    with gpu_of_this_job(config) as devices:
        trainer = build_training(config, folder, devices)
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        data = build_data(config)
        check_pair(task_class(config), data, config)
        task = build_task(without_downloads(config) if going_on else config)
        for split in SPLITS:
            task.check_dataset(data.dataset(split, training=split == "train"))
        if going_on:
            check_progress(load_weights(task, last_checkpoint(folder)), config.trainer.max_epochs)
            if is_first_rank():
                remember_changes(folder, changes)
                (folder / "metrics.json").unlink(missing_ok=True)  # of the weights before
        elif config.init is not None:
            load_weights(task, checkpoint_of(config.init))
        else:
            first = data.dataset("train", training=True)
            task.calibrate([first[index] for index in range(min(data.batch_size, len(first)))])
        if not going_on and is_first_rank():  # settings, data and weights are sound: from here on there is a run
            write_whole(folder / "config.yaml", yaml.safe_dump(plain_config(config), sort_keys=False))
        return fit_and_test(config, folder, trainer, data, task, started)


def last_checkpoint(folder: Path) -> Path:
    """Where a run goes on from, if it is there."""
    return folder / "checkpoints" / "last.ckpt"


def is_first_rank() -> bool:
    """Whether this process is a training's only one, or the first of several."""
    return next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0") == "0"


def jobs_at_once() -> int:
    """How many points of a sweep run at a time on this machine: joblib's `n_jobs`, else one."""
    hydra = HydraConfig.get()
    asked = int(hydra.launcher.get("n_jobs", 1)) if hydra.mode == RunMode.MULTIRUN else 1
    return max(1, (os.cpu_count() or 1) + 1 + asked if asked < 0 else asked)


@contextmanager
def gpu_of_this_job(config: DictConfig) -> Iterator[list[int] | None]:
    """The GPU that this job has to itself, where others run beside it on a machine with several; else None: what `trainer.devices` says."""
    gpus = torch.cuda.device_count()
    if jobs_at_once() < 2 or gpus < 2 or config.trainer.devices != 1 or config.trainer.accelerator not in ("auto", "gpu", "cuda"):
        yield None
        return
    with free_gpu([str(torch.cuda.get_device_properties(index).uuid) for index in range(gpus)]) as index:
        yield [index]


def resumed_config(config: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """The interrupted run's config with the few overrides that a resumed run may have, and these by dotted key.

    Raises:
        UserError: another override, or no checkpoint to go on from.
    """
    hydra = HydraConfig.get()
    overrides = [override for override in hydra.overrides.task if not override.startswith("resume=") and override != "logger=run"]
    # Lightning tells its ranks, which it starts by the same command, where the first one writes
    of_hydra = [text for text in hydra.overrides.hydra if not text.startswith("hydra.mode")] if is_first_rank() else []
    for override in [*overrides, *of_hydra]:
        key = key_of(override)
        if key not in RESUMABLE and not key.startswith("logger."):
            raise UserError(
                f"{override} cannot change while resuming, only {', '.join(RESUMABLE[1:])}: "
                f"for other settings start a new run with init={config.resume}"
            )
    keys = {key_of(override) for override in overrides}
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    changes = {key: plain["trainer"][key.removeprefix("trainer.")] for key in sorted(keys) if key.startswith("trainer.")}
    if any(key.split(".")[0] == "logger" for key in keys):
        changes["logger"] = plain["logger"]
    saved = OmegaConf.create(read_run(config.resume))
    for node, value in changes.items():
        OmegaConf.update(saved, node, value, merge=False)
    if not last_checkpoint(run_folder(config.resume)).is_file():
        raise UserError(f"{config.resume} has no checkpoints/last.ckpt: it stopped before its first epoch ended; start it anew")
    return saved, changes


def without_downloads(config: DictConfig) -> DictConfig:
    """Return the config with a backbone that loads no weights, since the checkpoint brings all; frozen parts stay frozen."""
    config = config.copy()
    if "weights" in config.get("backbone", {}):
        config.backbone.weights = config.backbone.weights and CHECKPOINT
    return config


def check_unused(folder: Path) -> None:
    """Refuse to start a new run in the folder of another.

    Raises:
        UserError: the folder holds a run already.
    """
    if is_first_rank() and (folder / "checkpoints").exists():
        resumable = last_checkpoint(folder).is_file()
        remedy = f"go on with it by resume={folder}" if resumable else "it has no checkpoints/last.ckpt to resume from: remove it"
        raise UserError(f"{folder} holds a run already: {remedy}, or name another folder")


def make_root_absolute(config: DictConfig) -> None:
    """The run may be resumed or evaluated from another folder."""
    if "root" in config.data:
        config.data.root = str(Path(config.data.root).absolute())


def plain_config(config: DictConfig) -> dict[str, Any]:
    """All settings as plain containers."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return plain


def check_progress(checkpoint: dict[str, Any], epochs: int) -> None:
    """Refuse to go on towards fewer epochs than are done.

    Raises:
        UserError: naming both numbers.
    """
    done = int(checkpoint["epoch"]) + 1
    if epochs < done:
        raise UserError(f"trainer.max_epochs {epochs} is below the {done} epochs that the run has trained: name {done} or more")


def build_training(config: DictConfig, folder: Path, devices: list[int] | None) -> lightning.Trainer:
    """The trainer with all that watches it, and two checkpoints: the best and the last; on these devices, or as `trainer.devices` says."""
    # two, as save_last writes only when the best is written; each overwrites its one file
    checkpoints = [
        Checkpoint(folder / "checkpoints", filename="best", monitor=task_class(config).monitor),
        Checkpoint(folder / "checkpoints", filename="last", monitor=None),
    ]
    callbacks = [*build_named(config, "callback"), Agreement(fingerprint_of(plain_config(config))), *checkpoints]
    loggers = build_named(config, "logger", save_dir=str(folder))
    if devices is not None:
        config = config.copy()
        config.trainer.devices = devices
    return build_trainer(config, folder, callbacks, loggers)


def fit_and_test(config: DictConfig, folder: Path, trainer: lightning.Trainer, data: SplitData, task: Task, started: float) -> float | None:
    """Fit, test with the best weights, and return the best validation score."""
    plain = plain_config(config)
    best, last = folder / "checkpoints" / "best.ckpt", last_checkpoint(folder)
    failed = True  # until the end is reached: Ctrl-C and SIGTERM fail the run too
    try:
        for logger in trainer.loggers:
            logger.log_hyperparams(plain)
        trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        if trainer.is_global_zero and not last.exists():
            trainer.save_checkpoint(last)  # no epoch was asked for: the weights are the initial ones
        load_weights(task, best if best.exists() else last)
        trainer.test(task, datamodule=data, verbose=False)
        if trainer.is_global_zero:
            task.result.draw(pictures_of(folder), data, "test")
            for run in wandb_runs(trainer.loggers):
                run.conclude(task.result.figures, pictures_of(folder), trainer.global_step)
        failed = False
    finally:
        for run in wandb_runs(trainer.loggers):
            run.finish(failed)
    score = next(one.best_model_score for one in trainer.checkpoint_callbacks if isinstance(one, Checkpoint) and one.monitor)
    monitored = None if score is None else float(score)
    if trainer.is_global_zero:  # last of all, as it says that all is there
        notes = task.result.notes()
        write_figures(folder, task.result.figures, provenance(plain, "test", started), f"{data.name} test", notes, monitored)
    return monitored
