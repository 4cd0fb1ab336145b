"""Prepare a command line's overrides for Hydra."""

import importlib.util
import os
import re

from hydra.core.config_store import ConfigStore

from rpe.errors import UserError
from rpe.older_runs import todays_override
from rpe.run.experiments import options_of_group
from rpe.run.sweep_record import sweep_folder
from rpe.run_files import CONF, read_run

RUN_GROUPS = ("data", "ranker", "proposal", "detection", "trainer")
"""Groups that evaluate.py and predict.py take from the run unless they are overridden."""

PATH_KEYS = (
    "run",
    "resume",
    "init_from",
    "predictions",
    "images",
    "output",
    "checkpoint",
    "data.root",
    "backbone.weights",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
"""Keys whose values are paths, which may hold characters of Hydra's grammar: `=`, spaces, brackets."""

LAUNCHER_EXTRAS = ("joblib", "submitit", "ray")
"""Launchers that are extras of this package."""

LOGGER_EXTRAS = ("wandb", "tensorboard", "mlflow")
"""Loggers that are extras of this package."""

OPTIONAL_GROUPS = ("experiment", "debug", "sweep", "launcher", "precision")
"""Groups that `<group>=null` removes. Without a launcher jobs run one by one; without a precision the run
keeps its own."""


def prepare_overrides(arguments: list[str]) -> list[str]:
    """Return the arguments as Hydra's parser takes them, with paths quoted.

    The groups of `run=` are stored as the option `run`, so that overrides work on a run's settings as on any
    others.

    Raises:
        UserError: the folder holds no run, -m is combined with `resume`, or `sweep` lacks -m.
    """
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    multirun = bool(flags)
    # Hydra's parser takes no flag between overrides
    arguments = flags + [argument for argument in arguments if argument not in flags]
    arguments = replace_null_groups([todays_override(argument) for argument in arguments])
    resume = value_of(arguments, "resume")
    if resume is not None and multirun:
        raise UserError(f"resume must be without -m, got {resume}. Remove -m: resume continues one run.")
    for group in ("sweep", "launcher"):
        if "," in (value_of(arguments, group) or ""):
            raise UserError(
                f"{group} must be one option, got {value_of(arguments, group)}. Start a command for each."
            )
    if (preset := value_of(arguments, "sweep")) is not None and not multirun:
        raise UserError(f"sweep must be used with -m, got {preset} without. Add -m.")
    check_launcher(value_of(arguments, "launcher"))
    check_loggers(value_of(arguments, "logger"))
    store_run_groups(value_of(arguments, "run"), resume)
    if resume is not None and value_of(arguments, "logger") is None:
        arguments = [*arguments, "logger=run"]
    prepared = [quote_paths(argument, multirun) for argument in arguments]
    trains = all(value_of(arguments, key) is None for key in ("run", "predictions"))
    if multirun and trains and value_of(arguments, "hydra.sweep.dir") is None:
        prepared.append(f"hydra.sweep.dir='{sweep_folder(prepared)}'")
    return prepared


def replace_null_groups(arguments: list[str]) -> list[str]:
    """Replace `group=null` and `group=none` by the group's option `none`, or remove them where it has none.

    Raises:
        UserError: the group is required.
    """
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    kept: list[str] = []
    for argument in arguments:
        group, _, value = argument.partition("=")
        values = value.split(",")
        if group not in groups or not {"null", "none"} & set(values):
            kept.append(argument)
        elif "none" in options_of_group(group):
            kept.append(f"{group}={','.join('none' if one == 'null' else one for one in values)}")
        elif group in OPTIONAL_GROUPS and len(values) == 1:
            kept = [earlier for earlier in kept if not earlier.startswith(f"{group}=")]
        else:
            raise UserError(f"{group} must be one of {', '.join(options_of_group(group))}, got {value}.")
    return kept


def check_launcher(launcher: str | None) -> None:
    """Refuse a launcher whose extra is not installed.

    Raises:
        UserError: the extra is missing.
    """
    extra = (launcher or "").removesuffix("_local")
    if extra in LAUNCHER_EXTRAS and importlib.util.find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        raise UserError(
            f"launcher must be installed, got {launcher}. Install its extra: pip install 'rpe[{extra}]'"
        )


def check_loggers(loggers: str | None) -> None:
    """Refuse a logger whose extra is not installed; `loggers` is an option or a list such as `[csv,mlflow]`.

    Raises:
        UserError: the extra is missing.
    """
    for name in re.findall(r"\w+", loggers or ""):
        if name in LOGGER_EXTRAS and importlib.util.find_spec(name) is None:
            raise UserError(
                f"logger must be installed, got {name}. Install its extra: pip install 'rpe[{name}]'"
            )


def store_run_groups(run: str | None, resume: str | None) -> None:
    """Store the groups of `run` as Hydra's option `run`, and the logger of the run to resume.

    Args:
        run: a run folder to evaluate or predict with.
        resume: a run folder to continue.
    """
    saved = read_run(run) if run is not None else {}
    for group in RUN_GROUPS:
        node = saved.get(group, {"name": None} if group == "data" else {})
        if group == "trainer" and node:
            # a run of debug=quick has tested two batches, but is evaluated on the whole split
            node["limit_test_batches"] = 1.0
        ConfigStore.instance().store(group=group, name="run", node=node, provider="run folder")
    logger = read_run(resume).get("logger", {}) if resume is not None else {}
    ConfigStore.instance().store(group="logger", name="run", node=logger, provider="run folder")


def value_of(arguments: list[str], key: str) -> str | None:
    """Return the value of the last argument `key=value`; None without one, and for null."""
    values = [
        argument.removeprefix(f"{key}=").strip("'\"")
        for argument in arguments
        if argument.startswith(f"{key}=")
    ]
    return values[-1] if values and values[-1] not in ("", "null") else None


def quote_paths(argument: str, multirun: bool) -> str:
    """Return `key='value'` for a key that takes paths; quoted and interpolated values stay as they are.

    With `multirun`, commas separate the values of a sweep.
    """
    key, equals, value = argument.partition("=")
    if (
        key.lstrip("+") not in PATH_KEYS
        or value in ("", "null")
        or value[0] in "'\""
        or "${" in value
        or re.match(r"(choice|glob)\(", value)
    ):
        return argument
    # Path.exists would raise for a long list
    if value[0] == "[" and value[-1] == "]" and not os.path.exists(value):  # noqa: PTH110
        # a list of files, whose names may hold brackets too; a list with quotes is in Hydra's grammar already
        if re.search("['\"]", value):
            return argument
        items = [
            item if re.fullmatch(r"[\w./-]*", item) else quote(item)
            for item in map(str.strip, value[1:-1].split(","))
        ]
        return f"{key}{equals}[{','.join(items)}]"
    values = value.split(",") if multirun and not key.startswith("hydra.") else [value]
    return key + equals + ",".join(map(quote, values))


def quote(value: str) -> str:
    """Return a path in the quotes of Hydra's grammar."""
    return "'" + value.replace("'", "\\'") + "'"
