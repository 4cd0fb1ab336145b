"""From a config to objects: the only place that instantiates.

A group is a `_target_` with its options. What a task is built from, its constructor says: a parameter that its YAML does not name is the group of that
name, or a network. So another task brings its class, its YAML and its groups, and here, in `MADE`, how its network is put together.
"""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import lightning
import torch
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from rpe.callbacks.checkpoint import WholeCheckpoints
from rpe.data.module import SplitData
from rpe.network.head import BoundaryClassifier, Objectness
from rpe.network.model import BoundaryDetector, PixelEmbedding
from rpe.run.experiments import experiments_of
from rpe.run.validation import check_complete, check_options, members
from rpe.segment import Ranker
from rpe.structures import UserError
from rpe.task.base import Task

NAMED_ENTRIES = ("logger", "callback")
"""Groups whose entries are built each, those set to null left out."""

REFUSALS = (TypeError, ValueError, RuntimeError, MisconfigurationException)
"""What other libraries raise for an option that they do not take; raised by ours, these are faults."""

LEAST_OF_TRAINER = {"max_epochs": 0, "accumulate_grad_batches": 1, "gradient_clip_val": 0}
"""What Lightning takes in silence: -1 epochs are without end, 0 batches divide by zero, a negative norm turns gradients round."""


def targets(config: DictConfig) -> dict[str, dict[str, Any]]:
    """All groups and named entries that are built, as plain values by their path in the config."""
    paths = [
        str(group) for group in config if OmegaConf.is_dict(config[group]) and group not in NAMED_ENTRIES
    ]
    paths += [
        f"{group}.{name}"
        for group in NAMED_ENTRIES
        for name in config.get(group) or {}
        if config[group][name] is not None
    ]
    return {path: options_of(config, path) for path in paths}


def options_of(config: DictConfig, path: str) -> dict[str, Any]:
    """A group's plain values.

    Raises:
        UserError: it has no class.
    """
    node = OmegaConf.select(config, path)
    options = (
        OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_dict(node) else None
    )
    if not isinstance(options, dict) or not isinstance(options.get("_target_"), str):
        raise UserError(
            f"{path} has no _target_: choose one of the options that --help lists for the group {path.split('.')[0]}"
        )
    return {str(name): value for name, value in options.items()}


def target_of(config: DictConfig, path: str) -> Any:
    """The class or function of a group.

    Raises:
        UserError: there is none of that name.
    """
    name = options_of(config, path)["_target_"]
    try:
        return get_object(name)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{path}._target_ {name} cannot be imported: {' '.join(str(error).split())}"
        ) from error


def check_config(config: DictConfig) -> None:
    """Refuse every value that the constructors' annotations do not allow, before anything is built.

    Raises:
        UserError: naming the option and what it takes.
    """
    seed = config.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed {seed} is no whole number from 0 on")
    for path, options in targets(config).items():
        # a value that stands elsewhere is named where it stands
        own = {
            name: value
            for name, value in options.items()
            if not OmegaConf.is_interpolation(OmegaConf.select(config, path), name)
        }
        check_options(target_of(config, path), own, path)


def build(config: DictConfig, path: str, **given: Any) -> Any:
    """Instantiate a group or a named entry of the config.

    Raises:
        UserError: what the class refused, naming the group.
    """
    options, target = options_of(config, path), target_of(config, path)
    check_options(target, options, path)
    # what is called later gets its first argument then: the parameters of an optimiser, the progress of a schedule
    later = list(inspect.signature(target).parameters)[:1] if options.get("_partial_") else []
    check_complete(target, {*options, *given, *later}, path)
    return refused_in_one_line(partial(instantiate, options, **given, _convert_="all"), path, target)


def refused_in_one_line(make: Callable[[], Any], path: str, target: Any) -> Any:
    """What `make` makes; where another library's class refuses its options, that is the user's slip.

    Raises:
        UserError: in that class's own words.
    """
    try:
        return make()
    except (HydraException, *REFUSALS) as error:
        cause = (
            error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
        )
        if isinstance(cause, UserError) and path not in str(cause):
            raise UserError(f"{path}: {cause}") from None
        if isinstance(cause, UserError) or str(target.__module__).startswith("rpe."):
            raise cause from None
        if isinstance(cause, REFUSALS):
            raise UserError(f"{path}: {str(cause).strip().splitlines()[0]}") from error
        raise


def build_part(config: DictConfig, path: str, expected: Any, **given: Any) -> Any:
    """Instantiate a group whose class must be one that what it becomes a part of can use.

    Raises:
        UserError: there is none, or one for another task.
    """
    if OmegaConf.select(config, path) is None:
        raise UserError(
            f"{config.task['_target_']} needs the group {path}: choose one of its options, or {experiment_of(config)}"
        )
    target = target_of(config, path)
    if expected is not Any and isinstance(target, type) and not issubclass(target, expected):
        wanted = " or ".join(member.__name__ for member in members(expected))
        raise UserError(
            f"{path} {target.__name__} is not what {config.task['_target_']} takes: it needs {wanted}; add {experiment_of(config)}"
        )
    return build(config, path, **given)


def experiment_of(config: DictConfig) -> str:
    """Return the experiments of the config's task as a user names them."""
    return (
        " or ".join(f"experiment={name}" for name in experiments_of(config.task["_target_"]))
        or "an experiment of that task"
    )


def build_named(config: DictConfig, group: str, **given: Any) -> list[Any]:
    """All entries of `logger` or `callback` that are not null."""
    return [
        build(config, f"{group}.{name}", **given)
        for name, node in (config.get(group) or {}).items()
        if node is not None
    ]


def build_data(config: DictConfig) -> SplitData:
    """The datamodule."""
    data = build(config, "data")
    assert isinstance(data, SplitData)
    return data


def build_optimizer(config: DictConfig) -> Any:
    """The optimiser without its parameters; tried on one, as it refuses its options only then."""
    optimizer = build(config, "optimizer")
    refused_in_one_line(
        partial(optimizer, torch.nn.LayerNorm(1)), "optimizer", target_of(config, "optimizer")
    )
    return optimizer


def build_schedule(config: DictConfig) -> Any:
    """The factor of the learning rate as a function of progress; tried at both ends, as it refuses its options only then."""
    schedule = build(config, "schedule")
    for progress in (0.0, 1.0):
        refused_in_one_line(partial(schedule, progress), "schedule", target_of(config, "schedule"))
    return schedule


def build_model(config: DictConfig) -> PixelEmbedding:
    """backbone -> embedding -> grouping, and the objectness beside it."""
    backbone = build(config, "backbone")
    channels = backbone.channels[0]
    embedding = build(config, "embedding", channels=channels)
    head = build_part(config, "head", Objectness, channels=channels)
    return PixelEmbedding(backbone, embedding, build(config, "grouping"), head)


def build_ranker(config: DictConfig, model: PixelEmbedding) -> Ranker:
    """Return the ranker, for the features of this network."""
    ranker = build_part(config, "ranker", Ranker, channels=model.backbone.channels[0])
    assert isinstance(ranker, Ranker)
    return ranker


def build_detector(config: DictConfig) -> BoundaryDetector:
    """On each of the backbone's stages an embedding, and one classifier of all."""
    backbone = build(config, "backbone")
    embeddings = [build(config, "embedding", channels=channels) for channels in backbone.channels]
    classifier = build_part(
        config, "head", BoundaryClassifier, dimension=embeddings[0].dimension, stages=len(embeddings)
    )
    return BoundaryDetector(backbone, embeddings, build(config, "grouping"), classifier)


MADE: dict[str, Callable[[DictConfig], Any]] = {
    "optimizer": build_optimizer,
    "schedule": build_schedule,
    "model": build_model,
    "detector": build_detector,
}
"""Parts of a task that take more than their group."""

LAST = ("model", "detector", "proposal")
"""Parts that are built last, in this order: networks take longest; the proposals' ranker takes a network's channels."""


def task_class(config: DictConfig) -> type[Task]:
    """The class of the task."""
    found = target_of(config, "task")
    assert isinstance(found, type) and issubclass(found, Task)
    return found


def build_task(config: DictConfig) -> Task:
    """Return the task with all its parts."""
    wanted = [name for name in inspect.signature(task_class(config)).parameters if name not in config.task]
    types = get_type_hints(task_class(config).__init__)
    parts: dict[str, Any] = {}
    for name in sorted(wanted, key=lambda name: LAST.index(name) if name in LAST else -1):
        given = {"ranker": build_ranker(config, parts["model"])} if name == "proposal" else {}
        parts[name] = MADE[name](config) if name in MADE else build_part(config, name, types[name], **given)
    task = build(config, "task", **parts)
    assert isinstance(task, Task)
    return task


def check_pair(task: type[Task], data: SplitData, config: DictConfig) -> None:
    """Refuse data that the task cannot use.

    Raises:
        UserError: naming both.
    """
    if not isinstance(data, task.takes):
        raise UserError(
            f"data {data.name} ({type(data).__name__}) is not what {config.task['_target_']} takes: it needs {task.takes.__name__}; "
            "choose other data, or their task (task=boundary)"
        )


def build_trainer(
    config: DictConfig, folder: Path, callbacks: list[lightning.Callback], loggers: list[Any]
) -> lightning.Trainer:
    """A trainer that writes into the folder and nowhere else.

    Raises:
        UserError: a number that would train for ever, not at all, or backwards, or a test on no batch.
    """
    options = options_of(config, "trainer")
    for key, least in LEAST_OF_TRAINER.items():
        value = options.get(key, least)
        if value is None and key == "max_epochs":
            raise UserError(
                "trainer.max_epochs is null: name how many epochs, as the schedule stretches over them"
            )
        if isinstance(value, int | float) and value < least:
            raise UserError(f"trainer.{key} {value} is below {least}")
    if options.get("limit_test_batches") == 0:
        raise UserError(
            "trainer.limit_test_batches 0 tests nothing: name a number of batches, or 1.0 for all"
        )
    trainer = build(
        config,
        "trainer",
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=loggers,
        plugins=[WholeCheckpoints()],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # EpochSampler shares the items out itself
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    assert isinstance(trainer, lightning.Trainer)
    return trainer
