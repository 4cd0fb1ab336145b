"""Train a new run or resume one, then test it."""

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

from rpe.callbacks.agreement import Agreement
from rpe.callbacks.checkpoint import Checkpoint, LastCheckpoint
from rpe.callbacks.compile import CompileTraining
from rpe.callbacks.metrics_csv import MetricsCsv
from rpe.callbacks.wandb_run import WandbRun, wandb_runs
from rpe.data.module import SPLITS, SplitData
from rpe.errors import is_first_rank
from rpe.network.backbone.encoder import CHECKPOINT
from rpe.run.building import (
    build_data,
    build_named,
    build_task,
    build_trainer,
    check_config,
    check_pair,
    task_class,
)
from rpe.run.folder import checkpoint_of, fingerprint_of, provenance, restore_weights, write_metrics
from rpe.run.lock import hold_gpu
from rpe.run.sweep_record import override_key
from rpe.run_files import pictures_of, read_run, remember_changes, run_folder, write_whole
from rpe.structures import UserError
from rpe.task.base import Task

RESUME_KEYS = ("resume", "trainer.max_epochs", "trainer.devices", "trainer.accelerator", "logger")
"""Keys that may stand beside `resume=`; `logger` with all its options."""


def train_run(config: DictConfig, folder: Path, resuming: bool) -> float | None:
    """Train, test with the best weights, and write everything into the run folder.

    Args:
        config: the config of this process; with `resume`, only the overrides beside it count.
        folder: the run folder, which exists.
        resuming: continue from the folder's last checkpoint, although `resume` is not set.

    Returns:
        The best validation score: the monitored metric of the best checkpoint; None where no epoch was
        validated.

    Raises:
        UserError: a user's mistake; before training starts wherever that is possible.
    """
    started = time.monotonic()
    changes: dict[str, Any] = {}
    if config.resume is not None:
        config, changes = resume_config(config)
        resuming = True
    check_config(config)
    make_root_absolute(config)
    if not resuming:
        check_unused(folder)
    with assign_gpu(config) as devices:
        trainer = build_training(config, folder, devices)
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        data = build_data(config)
        check_pair(task_class(config), data, config)
        task = build_task(disable_downloads(config) if resuming else config)
        for split in SPLITS:
            task.check_dataset(data.dataset(split, training=split == "train"))
        if resuming:
            checkpoint = restore_weights(task, last_checkpoint(folder))
            check_progress(checkpoint, config.trainer.max_epochs, data, trainer.world_size)
            if is_first_rank():
                remember_changes(folder, changes)
                (folder / "metrics.json").unlink(missing_ok=True)  # it belongs to earlier weights
        elif config.init_from is not None:
            restore_weights(task, checkpoint_of(config.init_from))
        else:
            first = data.dataset("train", training=True)
            batch = data.batch_size * trainer.world_size  # of all ranks, so two start as one process does
            task.initialise_from_data([first[index] for index in range(min(batch, len(first)))])
        if not resuming and is_first_rank():  # settings, data and weights are valid: the run begins here
            write_whole(folder / "config.yaml", yaml.safe_dump(to_plain(config), sort_keys=False))
        return fit_and_test(config, folder, trainer, data, task, started)


def last_checkpoint(folder: Path) -> Path:
    """Return the path of the checkpoint that a resumed run starts from."""
    return folder / "checkpoints" / "last.ckpt"


def count_parallel_jobs() -> int:
    """Return how many jobs of a sweep run at a time on this machine: joblib's `n_jobs`, else one."""
    hydra = HydraConfig.get()
    count = int(hydra.launcher.get("n_jobs", 1)) if hydra.mode == RunMode.MULTIRUN else 1
    return max(1, (os.cpu_count() or 1) + 1 + count if count < 0 else count)


@contextmanager
def assign_gpu(config: DictConfig) -> Iterator[list[int] | None]:
    """Yield the GPU that this job holds alone, where other jobs run beside it on a machine with several GPUs.

    None leaves the choice to `trainer.devices`.
    """
    gpus = torch.cuda.device_count()
    if (
        count_parallel_jobs() < 2
        or gpus < 2
        or config.trainer.devices != 1
        or config.trainer.accelerator not in ("auto", "gpu", "cuda")
    ):
        yield None
        return
    with hold_gpu([str(torch.cuda.get_device_properties(index).uuid) for index in range(gpus)]) as index:
        yield [index]


def resume_config(config: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """Return the interrupted run's config with the changes that a resumed run may make.

    The changes themselves are returned too, by dotted key.

    Raises:
        UserError: an override that a resumed run cannot have, or the run has no checkpoint.
    """
    hydra = HydraConfig.get()
    overrides = [
        override
        for override in hydra.overrides.task
        if not override.startswith("resume=") and override != "logger=run"
    ]
    # Lightning starts its ranks by the same command, with the first rank's folder as an override of Hydra's
    hydra_overrides = (
        [text for text in hydra.overrides.hydra if not text.startswith("hydra.mode")]
        if is_first_rank()
        else []
    )
    for override in [*overrides, *hydra_overrides]:
        key = override_key(override)
        if key not in RESUME_KEYS and not key.startswith("logger."):
            raise UserError(
                f"overrides beside resume= must be of {', '.join(RESUME_KEYS[1:])}, got {override}. "
                f"Start a new run with init_from={config.resume} for other settings."
            )
    keys = {override_key(override) for override in overrides}
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    changes = {
        key: plain["trainer"][key.removeprefix("trainer.")]
        for key in sorted(keys)
        if key.startswith("trainer.")
    }
    if any(key.split(".")[0] == "logger" for key in keys):
        changes["logger"] = plain["logger"]
    saved = OmegaConf.create(read_run(config.resume))
    for node, value in changes.items():
        OmegaConf.update(saved, node, value, merge=False)
    if not last_checkpoint(run_folder(config.resume)).is_file():
        raise UserError(
            f"resume must have a checkpoint, got {config.resume}, which stopped in its first epoch. "
            "Start a new run."
        )
    return saved, changes


def disable_downloads(config: DictConfig) -> DictConfig:
    """Return the config with a backbone that loads no weights, since the checkpoint holds all.

    Frozen parts stay frozen.
    """
    config = config.copy()
    if "weights" in config.get("backbone", {}):
        config.backbone.weights = config.backbone.weights and CHECKPOINT
    return config


def check_unused(folder: Path) -> None:
    """Refuse to start a new run in the folder of another.

    Raises:
        UserError: the folder holds a run.
    """
    if is_first_rank() and (folder / "checkpoints").exists():
        remedy = f"Add resume={folder} to continue it."
        if not last_checkpoint(folder).is_file():
            remedy = "It has no checkpoints/last.ckpt to continue from. Remove it, or name another folder."
        raise UserError(f"hydra.run.dir must be a new folder, got {folder}, which holds a run. {remedy}")


def make_root_absolute(config: DictConfig) -> None:
    """Make `data.root` absolute, as the run may be resumed or evaluated from another folder."""
    if "root" in config.data:
        config.data.root = str(Path(config.data.root).absolute())


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Return all settings as plain containers."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def check_progress(checkpoint: dict[str, Any], epochs: int, data: SplitData, ranks: int) -> None:
    """Refuse to resume with fewer epochs than are done, or with another number of ranks within an epoch.

    Raises:
        UserError: `trainer.max_epochs` is too small, or `trainer.devices` is another one.
    """
    done = int(checkpoint["epoch"]) + 1
    if epochs < done:
        raise UserError(
            f"trainer.max_epochs must be >= {done}, got {epochs}. The run has trained {done} epochs."
        )
    before = checkpoint.get(type(data).__qualname__, {}).get("ranks", ranks)  # Lightning's name of its state
    if ranks != before:
        raise UserError(
            f"trainer.devices must give {before} ranks, got {ranks}. "
            "The run stopped in the middle of an epoch, whose images its ranks share."
        )


def build_training(config: DictConfig, folder: Path, devices: list[int] | None) -> lightning.Trainer:
    """Build the trainer with its callbacks, loggers and two checkpoints: the best and the last.

    Args:
        config: the run's config.
        folder: the run folder.
        devices: replaces `trainer.devices` unless it is None.
    """
    # two, as save_last writes only when the best is written; each overwrites its file
    checkpoints = [
        Checkpoint(folder / "checkpoints", filename="best", monitor=task_class(config).monitor),
        LastCheckpoint(folder / "checkpoints", config.get("checkpoint_minutes")),  # older runs lack the key
    ]
    callbacks = [
        *build_named(config, "callbacks"),
        Agreement(fingerprint_of(to_plain(config))),
        *([CompileTraining(config.compile)] if config.get("compile") else []),  # older runs lack the key
        *checkpoints,
    ]
    loggers = build_named(config, "logger", save_dir=str(folder))
    if devices is not None:
        config = config.copy()
        config.trainer.devices = devices
    return build_trainer(config, folder, callbacks, loggers)


def log_test(trainer: lightning.Trainer, metrics: dict[str, float], folder: Path) -> None:
    """Log the test metrics as `test/<metric>`; `metrics.csv` holds those of epochs only."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbRun):
            logger.log_test(metrics, pictures_of(folder), trainer.global_step)
        elif not isinstance(logger, MetricsCsv):
            logger.log_metrics(
                {f"test/{name}": value for name, value in metrics.items()}, trainer.global_step
            )
            logger.finalize("success")  # writes them; Lightning has closed the logger after the test


def fit_and_test(
    config: DictConfig, folder: Path, trainer: lightning.Trainer, data: SplitData, task: Task, started: float
) -> float | None:
    """Fit, test with the best weights, and return the best validation score.

    Args:
        config: of the run.
        folder: the run folder.
        trainer: with its callbacks and loggers.
        data: the dataset.
        task: the network with its loss.
        started: the time of the start, by `time.monotonic`.
    """
    plain = to_plain(config)
    best, last = folder / "checkpoints" / "best.ckpt", last_checkpoint(folder)
    failed = True  # Ctrl-C and SIGTERM fail the run too
    try:
        for logger in trainer.loggers:
            logger.log_hyperparams(plain)
        # before Lightning restores a checkpoint, as it would round double weights to single precision
        trainer.precision_plugin.convert_module(task)
        trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        if trainer.is_global_zero and not last.exists():
            trainer.save_checkpoint(last)  # max_epochs is 0: the weights are the initial ones
        restore_weights(task, best if best.exists() else last)
        trainer.test(task, datamodule=data, verbose=False)
        if trainer.is_global_zero:
            task.result.draw(pictures_of(folder), data, "test")
            log_test(trainer, task.result.metrics, folder)
        failed = False
    finally:
        for run in wandb_runs(trainer.loggers):
            run.finish(failed)
    score = next(
        one.best_model_score
        for one in trainer.checkpoint_callbacks
        if isinstance(one, Checkpoint) and one.monitor
    )
    monitored = None if score is None else float(score)
    if trainer.is_global_zero:  # last, as a folder with metrics.json is complete
        notes = task.result.notes()
        write_metrics(
            folder,
            task.result.metrics,
            provenance(plain, "test", started),
            f"{data.name} test",
            notes,
            monitored,
        )
    return monitored
