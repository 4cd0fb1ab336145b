"""train(config) and evaluate(config): build, seed, resume, write down. The only place that turns a config into objects."""

import functools
import hashlib
import json
import logging
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from rpe.data.module import InstanceData
from rpe.metric.average_recall import average_recall
from rpe.model import PixelEmbedding
from rpe.structures import InputError
from rpe.task.instance import InstanceTask

RESUMABLE = ("resume", "trainer.max_epochs", "trainer.devices", "trainer.accelerator", "logger")
"""What may be said beside `resume=`; `logger` with all below it."""

FROM_RUN = ("data", "proposal", "trainer")
"""Groups that evaluate.py takes from the run unless told otherwise."""


# --- the doors ------------------------------------------------------------------------------------------------------------


def enter(main: Callable[[], Any]) -> None:
    """Run a door; a user's slip becomes one line on stderr and exit status 1, a fault of ours keeps its stack trace."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then hands errors on instead of printing them
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero", "lightning.pytorch.callbacks"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # loading as many scenes ahead as there are cores is the user's choice, data.workers
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    try:
        offer_run(sys.argv[1:])
        main()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def one_line(error: BaseException) -> str:
    """What the error says, on one line; an error that crossed a process or an interpolation is stripped to its own words."""
    text = str(error)
    marker = f"{InputError.__module__}.{InputError.__qualname__}: "
    if marker in text:
        return text.split(marker)[-1].strip().splitlines()[0]
    if isinstance(error.__cause__, InputError | OmegaConfBaseException) and not isinstance(error, InputError):
        return one_line(error.__cause__)
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(("full_key", "object_type", "reference_type"))
    ]
    return "; ".join(lines)


def offer_run(arguments: list[str]) -> None:
    """Store the groups of the run that is to be evaluated as the option `run`, so that Hydra's overrides work on them as on any other.

    Raises:
        InputError: the run folder does not exist or is none.
    """
    if any(argument.startswith("resume=") for argument in arguments) and {"-m", "--multirun"} & set(arguments):
        raise InputError("resume goes on with one run: leave -m out")
    named = [argument.removeprefix("run=").strip("'\"") for argument in arguments if argument.startswith("run=")]
    run = read_run(named[-1]) if named and named[-1] != "null" else {}
    for group in FROM_RUN:
        node = run.get(group, {"name": None} if group == "data" else {})
        if group == "trainer" and node:
            node["limit_test_batches"] = 1.0  # a run that was tried on two batches is evaluated on the whole split
        ConfigStore.instance().store(group=group, name="run", node=node, provider="run folder")


def train_folder(resume: str | None, fresh: str) -> str:
    """Where a training writes: its own new folder, or the one that it goes on with."""
    return fresh if resume is None else str(run_folder(resume))


def point_folder(number: int, overrides: str) -> str:
    """The name of a sweep's point: letters, digits and -_. alone, so that it can be named on a command line."""
    return f"{number}_{re.sub(r'[^A-Za-z0-9_.-]+', '_', overrides.replace('=', '-'))}"[:100]


def evaluation_folder(run: str | None, data: str | None, split: str, now: str) -> str:
    """Where an evaluation writes: into the run that it evaluates, else among the outputs."""
    return f"outputs/evaluate/{now}" if run is None else str(run_folder(run) / "evaluation" / f"{data}-{split}")


OmegaConf.register_new_resolver("rpe.train_folder", train_folder, replace=True)
OmegaConf.register_new_resolver("rpe.point_folder", point_folder, replace=True)
OmegaConf.register_new_resolver("rpe.evaluation_folder", evaluation_folder, replace=True)


# --- run folders ----------------------------------------------------------------------------------------------------------


def run_folder(folder: str) -> Path:
    """The folder, if a run lies there.

    Raises:
        InputError: no folder, or no config.yaml in it.
    """
    path = Path(folder)
    if not (path / "config.yaml").is_file():
        what = "holds no config.yaml" if path.is_dir() else "does not exist"
        raise InputError(f"run folder {folder} {what}: name a folder that train.py wrote, such as outputs/digits/<time>")
    return path


def read_run(folder: str) -> dict[str, Any]:
    """A run's config, as plain containers."""
    return dict(yaml.safe_load((run_folder(folder) / "config.yaml").read_text()))


def checkpoint_of(name: str) -> Path:
    """The best checkpoint of a run folder, or the checkpoint itself.

    Raises:
        InputError: there is none.
    """
    path = Path(name)
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"checkpoint {file} does not exist: name a run folder that has trained, or a .ckpt file")
    return file


def write_whole(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text)
    os.replace(partial, file)


def load_weights(task: InstanceTask, file: Path) -> None:
    """Load a checkpoint's weights.

    Raises:
        InputError: it is not a checkpoint, or one of another model.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise InputError(f"{file} is not a checkpoint of this program ({type(error).__name__}): name a .ckpt that train.py wrote") from error
    wanted = task.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        here, there = wanted.get(name), state.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if tensor is None else list(tensor.shape) for tensor in (there, here)]
            raise InputError(
                f"checkpoint {file} is of another model: {name} is {shapes[0]} there and {shapes[1]} here; "
                "use its run's backbone, embedding and grouping settings"
            )
    task.load_state_dict(state)


def provenance(config: dict[str, Any], split: str, started: float) -> dict[str, Any]:
    """What a result needs to be repeated: commit, config hash, data, hardware, versions, seconds."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(git, capture_output=True, text=True, check=False) if Path(__file__).parent.parent.joinpath(".git").exists() else None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "commit": answer.stdout.strip() if answer and answer.returncode == 0 else "unknown",
        "config": hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16],
        "data": config["data"],
        "split": split,
        "hardware": {"device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "lightning": lightning.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }


def write_figures(folder: Path, figures: dict[str, float], run: dict[str, Any], title: str) -> None:
    """`metrics.json`, and the same as a table for whoever looks on."""
    write_whole(folder / "metrics.json", json.dumps({"figures": figures, "run": run}, indent=2) + "\n")
    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, f"{value:g}" if value == int(value) else f"{value:.4f}")
    console = Console()
    console.print(table)
    console.print(f"all of it: {folder}", soft_wrap=True, highlight=False)


# --- building -------------------------------------------------------------------------------------------------------------


def build_data(config: DictConfig) -> InstanceData:
    """The datamodule; an option that its class does not know is the user's slip."""
    data = build(config, "data")
    assert isinstance(data, InstanceData)
    return data


def build(config: DictConfig, group: str, **given: Any) -> Any:
    """Instantiate a group of the config.

    Raises:
        InputError: what the class refused, naming the group.
    """
    try:
        return instantiate(config[group], **given, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | AssertionError):
            raise InputError(f"{group}: {str(cause).strip().splitlines()[0]}") from error
        raise


def build_task(config: DictConfig) -> InstanceTask:
    """All stages, assembled."""
    backbone = build(config, "backbone")
    channels = backbone.channels[0]
    model = PixelEmbedding(
        backbone,
        build(config, "embedding", channels=channels),
        build(config, "grouping"),
        build(config, "head", channels=channels),
        build(config, "ranker", channels=channels),
    )
    task = build(
        config,
        "task",
        model=model,
        loss=build(config, "loss"),
        proposal=build(config, "proposal"),
        optimizer=build(config, "optimizer"),
        schedule=build(config, "schedule"),
    )
    assert isinstance(task, InstanceTask)
    return task


def build_trainer(config: DictConfig, folder: Path, callbacks: list[lightning.Callback], loggers: list[Any]) -> lightning.Trainer:
    """A trainer that writes into the folder and nowhere else."""
    trainer = build(
        config,
        "trainer",
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=loggers,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # EpochSampler shares the items out itself
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    assert isinstance(trainer, lightning.Trainer)
    return trainer


# --- what the doors do ----------------------------------------------------------------------------------------------------


def resumed_config(config: DictConfig) -> DictConfig:
    """The interrupted run's config with the few overrides that a resumed run may have.

    Raises:
        InputError: another override, a multirun, or no checkpoint to go on from.
    """
    hydra = HydraConfig.get()
    overrides = [override for override in hydra.overrides.task if not override.startswith("resume=")]
    for override in [*overrides, *(text for text in hydra.overrides.hydra if not text.startswith("hydra.mode"))]:
        key = override.split("=")[0].lstrip("+~")
        if key not in RESUMABLE and not key.startswith("logger."):
            raise InputError(
                f"{override} cannot change while resuming, only {', '.join(RESUMABLE[1:])}: "
                f"for other settings start a new run with init={config.resume}"
            )
    saved = without_downloads(OmegaConf.create(read_run(config.resume)))
    for override in overrides:
        key = override.split("=")[0].lstrip("+~")
        node = key.split(".")[0] if key.startswith("logger") else key
        OmegaConf.update(saved, node, OmegaConf.select(config, node), merge=False)
    if not (Path(config.resume) / "checkpoints" / "last.ckpt").is_file():
        raise InputError(f"{config.resume} has no checkpoints/last.ckpt: it stopped before its first epoch ended; start it anew")
    return saved


def without_downloads(config: DictConfig) -> DictConfig:
    """A config whose backbone starts from nothing, since the checkpoint brings all weights."""
    if "weights" in config.backbone:
        config.backbone.weights = None
    return config


def plainly(function: Callable[[DictConfig], dict[str, float]]) -> Callable[[DictConfig], dict[str, float]]:
    """A slip in a single run ends here with its one line, before which Hydra would put its own; in a multirun Hydra goes on with the rest."""

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> dict[str, float]:
        try:
            return function(config)
        except InputError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(1) from None

    return wrapped


@plainly
def train(config: DictConfig) -> dict[str, float]:
    """Train, test with the best weights, write everything into the run folder; returns the test figures.

    Raises:
        InputError: a user's slip; before training starts wherever that is possible.
    """
    started = time.monotonic()
    folder = Path(HydraConfig.get().runtime.output_dir)
    resume = config.resume
    if resume is not None:
        config = resumed_config(config)
    else:
        if (folder / "checkpoints").exists() and os.environ.get("LOCAL_RANK", "0") == "0":
            raise InputError(f"{folder} holds a run already: go on with it by resume={folder}, or name another folder")
        if "root" in config.data:
            config.data.root = str(Path(config.data.root).absolute())  # the run may be resumed or evaluated from another folder
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        write_whole(folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
    if not isinstance(config.seed, int) or config.seed < 0:
        raise InputError(f"seed {config.seed} is no whole number from 0 on")
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data, task = build_data(config), build_task(config)
    data.dataset("train", training=True)
    for split in ("val", "test"):
        data.dataset(split)
    if config.init is not None and resume is None:
        load_weights(task, checkpoint_of(config.init))
    return fit_and_test(config, folder, data, task, resume, started)


def fit_and_test(config: DictConfig, folder: Path, data: InstanceData, task: InstanceTask, resume: str | None, started: float) -> dict[str, float]:
    """The training itself, and the test with its best weights."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    # two, as save_last writes only when the best is written; each overwrites its one file
    saving: dict[str, Any] = {"dirpath": folder / "checkpoints", "save_on_train_epoch_end": True, "enable_version_counter": False}
    checkpoints = [ModelCheckpoint(filename="best", monitor="val/AR@10", mode="max", **saving), ModelCheckpoint(filename="last", **saving)]
    loggers = [build(config.logger, name, save_dir=str(folder)) for name in config.logger]
    for logger in loggers:
        logger.log_hyperparams(plain)
    trainer = build_trainer(config, folder, [*(build(config.callback, name) for name in config.callback), *checkpoints], loggers)
    last = folder / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(task, datamodule=data, ckpt_path=str(last) if resume is not None else None, weights_only=True)
        if trainer.is_global_zero and not last.exists():
            trainer.save_checkpoint(last)  # no epoch was asked for: the weights are the initial ones
        best = folder / "checkpoints" / "best.ckpt"
        load_weights(task, best if best.exists() else last)
        trainer.test(task, datamodule=data, verbose=False)
    finally:
        finish_wandb(failed=sys.exc_info()[0] is not None)
    if trainer.is_global_zero:
        write_figures(folder, task.figures, provenance(plain, "test", started), f"{data.name} test")
    return task.figures


def finish_wandb(failed: bool) -> None:
    """End wandb's run, or the next job of this process would write into it."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish(exit_code=int(failed))


@plainly
def evaluate(config: DictConfig) -> dict[str, float]:
    """Score a run's best weights, or anybody's results file, on a split; returns the figures.

    Raises:
        InputError: neither or both of run and predictions, no data, or anything wrong with the files.
    """
    started = time.monotonic()
    if (config.run is None) == (config.predictions is None):
        raise InputError("evaluate needs one of run=<run folder> and predictions=<results.json>")
    if "_target_" not in config.data:
        raise InputError("predictions= needs the data that they are for: add data=coco data.root=<folder>")
    folder = Path(HydraConfig.get().runtime.output_dir)
    data = build_data(config)
    if config.predictions is not None:
        figures = average_recall(data.truth(config.split), read_results(Path(config.predictions)))
        plain = {"data": OmegaConf.to_container(config.data, resolve=True), "predictions": str(config.predictions)}
        write_figures(folder, figures, provenance(plain, config.split, started), f"{data.name} {config.split}")
        return figures
    run = OmegaConf.merge(read_run(config.run), {name: config[name] for name in ("trainer",)})
    assert isinstance(run, DictConfig)
    run.data, run.proposal = config.data, config.proposal
    without_downloads(run)
    task = build_task(run)
    named = {"best": "best.ckpt", "last": "last.ckpt"}.get(config.checkpoint)
    load_weights(task, checkpoint_of(str(Path(config.run) / "checkpoints" / named) if named else config.checkpoint))
    trainer = build_trainer(run, folder, [], [])
    trainer.test(task, dataloaders=data.loader(config.split, training=False), verbose=False)
    if trainer.is_global_zero:
        write_whole(folder / "proposals.json", json.dumps(task.results))
        plain = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
        write_figures(folder, task.figures, provenance(plain, config.split, started), f"{data.name} {config.split}")
    return task.figures


def read_results(file: Path) -> list[dict[str, Any]]:
    """A COCO results file.

    Raises:
        InputError: no such file, or not JSON.
    """
    if not file.is_file():
        raise InputError(f"predictions {file} does not exist")
    try:
        return list(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"predictions {file} is not a JSON list of COCO results: {error}") from error
