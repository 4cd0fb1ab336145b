"""Build objects from a config: the only module that instantiates.

A group is a `_target_` with its options. A task's constructor says what the task is built from: a parameter
that its YAML does not set is the group of that name, or a network. So a new task brings its class, its YAML
and its groups, and an entry of `BUILDERS` where its network is put together from several groups.
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
from rpe.run.experiments import experiments_of_task
from rpe.run.validation import check_complete, check_options, union_members
from rpe.segment import Ranker
from rpe.structures import UserError
from rpe.task.base import Task

NAMED_ENTRIES = ("logger", "callbacks")
"""Groups of several objects by name; an entry that is null is left out."""

LIBRARY_ERRORS = (TypeError, ValueError, RuntimeError, MisconfigurationException)
"""Exceptions by which other libraries refuse an option. Raised by this package's own code, they are bugs."""

TRAINER_MINIMA = {"max_epochs": 0, "accumulate_grad_batches": 1, "gradient_clip_val": 0}
"""Least values of options that Lightning does not check: -1 epochs never end, 0 batches divide by zero, a
negative norm reverses gradients."""


def list_targets(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Return the plain options of each group and named entry that is built, by its path in the config."""
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
    """Return a group's options as plain values.

    Raises:
        UserError: the group has no `_target_`.
    """
    node = OmegaConf.select(config, path)
    options = (
        OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_dict(node) else None
    )
    if not isinstance(options, dict) or not isinstance(options.get("_target_"), str):
        raise UserError(
            f"{path} must have a _target_, got none. "
            f"Choose an option of {path.split('.')[0]} that --help lists."
        )
    return {str(name): value for name, value in options.items()}


def target_of(config: DictConfig, path: str) -> Any:
    """Return the class or function of a group.

    Raises:
        UserError: it cannot be imported.
    """
    name = options_of(config, path)["_target_"]
    try:
        return get_object(name)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{path}._target_ must be importable, got {name} ({' '.join(str(error).split())}). "
            "Name an installed class or function."
        ) from error


def check_config(config: DictConfig) -> None:
    """Refuse values that the constructors' annotations do not allow, before anything is built.

    Raises:
        UserError: an option has a value of another type.
    """
    seed = config.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed must be an integer >= 0, got {seed}.")
    for path, options in list_targets(config).items():
        # an interpolated value is checked under its own key
        own = {
            name: value
            for name, value in options.items()
            if not OmegaConf.is_interpolation(OmegaConf.select(config, path), name)
        }
        check_options(target_of(config, path), own, path)


def build(config: DictConfig, path: str, **given: Any) -> Any:
    """Instantiate a group or a named entry of the config.

    Raises:
        UserError: the class refused its options.
    """
    options, target = options_of(config, path), target_of(config, path)
    check_options(target, options, path)
    # a partial gets its first argument later: the parameters of an optimizer, the progress of a schedule
    later = list(inspect.signature(target).parameters)[:1] if options.get("_partial_") else []
    check_complete(target, {*options, *given, *later}, path)
    for name, value in options.items():
        if isinstance(value, dict) and isinstance(value.get("_target_"), str):
            check_complete(get_object(value["_target_"]), set(value), f"{path}.{name}")
    return call_constructor(partial(instantiate, options, **given, _convert_="all"), path, target)


def call_constructor(make: Callable[[], Any], path: str, target: Any) -> Any:
    """Return what `make` returns; an option that another library refuses is the user's mistake.

    Raises:
        UserError: in the library's words, with the path of the group.
    """
    try:
        return make()
    except (HydraException, *LIBRARY_ERRORS) as error:
        cause = (
            error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
        )
        if isinstance(cause, UserError) and path not in str(cause):
            raise UserError(f"{path}: {cause}") from None
        if isinstance(cause, UserError) or str(target.__module__).startswith("rpe."):
            raise cause from None
        if isinstance(cause, LIBRARY_ERRORS):
            raise UserError(f"{path}: {str(cause).strip().splitlines()[0]}") from error
        raise


def build_part(config: DictConfig, path: str, expected: Any, **given: Any) -> Any:
    """Instantiate a group whose object becomes part of another one.

    Raises:
        UserError: the group is missing, or its class is for another task.
    """
    if OmegaConf.select(config, path) is None:
        raise UserError(
            f"{path} must be given for {config.task['_target_']}, got null. "
            f"Choose one of its options, or add {suggest_experiments(config)}."
        )
    target = target_of(config, path)
    if expected is not Any and isinstance(target, type) and not issubclass(target, expected):
        wanted = " or ".join(member.__name__ for member in union_members(expected))
        raise UserError(
            f"{path} must be {wanted} for {config.task['_target_']}, got {target.__name__}. "
            f"Add {suggest_experiments(config)}."
        )
    return build(config, path, **given)


def suggest_experiments(config: DictConfig) -> str:
    """Return the experiments of the config's task as a user types them."""
    return (
        " or ".join(f"experiment={name}" for name in experiments_of_task(config.task["_target_"]))
        or "an experiment of that task"
    )


def build_named(config: DictConfig, group: str, **given: Any) -> list[Any]:
    """Build the entries of `logger` or `callbacks` that are not null."""
    return [
        build(config, f"{group}.{name}", **given)
        for name, node in (config.get(group) or {}).items()
        if node is not None
    ]


def build_data(config: DictConfig) -> SplitData:
    """Build the datamodule."""
    data = build(config, "data")
    assert isinstance(data, SplitData)
    return data


def build_optimizer(config: DictConfig) -> Any:
    """Build the factory of the optimizer.

    It is tried on one layer, as only then it refuses its options.
    """
    optimizer = build(config, "optimizer")
    call_constructor(partial(optimizer, torch.nn.LayerNorm(1)), "optimizer", target_of(config, "optimizer"))
    return optimizer


def build_schedule(config: DictConfig) -> Any:
    """Build the learning rate's factor as a function of progress.

    It is tried at 0 and 1, as only then it refuses its options.
    """
    schedule = build(config, "schedule")
    for progress in (0.0, 1.0):
        call_constructor(partial(schedule, progress), "schedule", target_of(config, "schedule"))
    return schedule


def build_pixel_embedding(config: DictConfig) -> PixelEmbedding:
    """Build the network of instance tasks: backbone, embedding, grouping, and the objectness head."""
    backbone = build(config, "backbone")
    channels = backbone.channels[0]
    embedding = build(config, "embedding", channels=channels)
    head = build_part(config, "head", Objectness, channels=channels)
    return PixelEmbedding(backbone, embedding, build(config, "grouping"), head)


def build_ranker(config: DictConfig, model: PixelEmbedding) -> Ranker:
    """Build the ranker for the features of this network."""
    ranker = build_part(config, "ranker", Ranker, channels=model.backbone.channels[0])
    assert isinstance(ranker, Ranker)
    return ranker


def build_boundary_detector(config: DictConfig) -> BoundaryDetector:
    """Build the network of boundary tasks: an embedding on each stage of the backbone, and a classifier."""
    backbone = build(config, "backbone")
    embeddings = [build(config, "embedding", channels=channels) for channels in backbone.channels]
    classifier = build_part(
        config,
        "head",
        BoundaryClassifier,
        dimension=embeddings[0].dimension,
        stages=len(embeddings),
        channels=backbone.channels[0],
    )
    return BoundaryDetector(backbone, embeddings, build(config, "grouping"), classifier)


BUILDERS: dict[str | type, Callable[[DictConfig], Any]] = {
    "optimizer": build_optimizer,
    "schedule": build_schedule,
    PixelEmbedding: build_pixel_embedding,
    BoundaryDetector: build_boundary_detector,
}
"""Functions that build a part of a task from more than its group, by the part's name or type."""

BUILT_LAST = ("model", "proposal")
"""Parts that are built last, in this order: the network takes longest, and the proposals' ranker takes its
channels."""


def task_class(config: DictConfig) -> type[Task]:
    """Return the class of the config's task."""
    found = target_of(config, "task")
    assert isinstance(found, type) and issubclass(found, Task)
    return found


def build_task(config: DictConfig) -> Task:
    """Build the task with all its parts."""
    wanted = [name for name in inspect.signature(task_class(config)).parameters if name not in config.task]
    types = get_type_hints(task_class(config).__init__)
    parts: dict[str, Any] = {}
    for name in sorted(wanted, key=lambda name: BUILT_LAST.index(name) if name in BUILT_LAST else -1):
        given = {"ranker": build_ranker(config, parts["model"])} if name == "proposal" else {}
        builder = BUILDERS.get(name) or BUILDERS.get(types[name])
        parts[name] = builder(config) if builder else build_part(config, name, types[name], **given)
    task = build(config, "task", **parts)
    assert isinstance(task, Task)
    return task


def check_pair(task: type[Task], data: SplitData, config: DictConfig) -> None:
    """Refuse data that the task cannot use.

    Raises:
        UserError: the data are of another kind.
    """
    if not isinstance(data, task.takes):
        raise UserError(
            f"data must be {task.takes.__name__} for {config.task['_target_']}, "
            f"got {data.name} ({type(data).__name__}). "
            "Choose other data, or their task (such as task=boundary)."
        )


def build_trainer(
    config: DictConfig, folder: Path, callbacks: list[lightning.Callback], loggers: list[Any]
) -> lightning.Trainer:
    """Build a trainer that writes into the folder and nowhere else.

    Raises:
        UserError: an option would train forever, not at all, or backwards, or test no batch.
    """
    options = options_of(config, "trainer")
    for key, least in TRAINER_MINIMA.items():
        value = options.get(key, least)
        if value is None and key == "max_epochs":
            raise UserError(
                "trainer.max_epochs must be an integer >= 0, got null. The schedule runs over the epochs."
            )
        if isinstance(value, int | float) and value < least:
            raise UserError(f"trainer.{key} must be >= {least}, got {value}.")
    if options.get("limit_test_batches") == 0:
        raise UserError(
            "trainer.limit_test_batches must be a number of batches or 1.0 (all), got 0. "
            "Set 1 for the shortest test."
        )
    trainer = build(
        config,
        "trainer",
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=loggers,
        plugins=[WholeCheckpoints()],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # EpochSampler gives each rank its share
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    assert isinstance(trainer, lightning.Trainer)
    return trainer
