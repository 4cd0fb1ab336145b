"""Around the doors: arguments as Hydra wants them, and one line for a user's slip, while a fault of ours keeps its stack trace."""

import errno
import functools
import importlib.util
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rpe.errors import did_you_mean
from rpe.older_runs import todays_override
from rpe.run import sweep
from rpe.run.experiments import options_of_group
from rpe.run.run_name import job
from rpe.run_files import CONF, read_run, run_folder, write_whole
from rpe.structures import UserError

FROM_RUN = ("data", "ranker", "proposal", "detection", "trainer")
"""Groups that evaluate.py takes from the run unless told otherwise."""

PATHS = (
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
"""Keys whose values may hold what Hydra's grammar would read as its own: = spaces brackets."""

LAUNCHERS = ("joblib", "submitit", "ray")
"""Extras of this package."""

OF_THE_FILE_SYSTEM = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.EROFS,
    errno.ENOSPC,
    errno.ENAMETOOLONG,
)
"""Errors that speak of a path or a disk, whatever the program does; a file that is missing may be our own fault."""

OFF_BY_DEFAULT = ("experiment", "debug", "sweep", "launcher", "precision")
"""Groups whose `null` is the command without them; `launcher=null` is one job after another, `precision=null` the run's own."""


def enter(main: Callable[[], Any]) -> None:
    """Run a door; a user's slip becomes one line on stderr and exit status 1, a fault of ours keeps its stack trace."""
    quieten()
    sweep.asked.clear()
    try:
        sys.argv[1:] = prepared(sys.argv[1:])
        main()
    except KeyboardInterrupt:
        print(
            f"error: stopped by Ctrl-C{'; the same command goes on' if sweep.asked else ''}", file=sys.stderr
        )
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        failed = sweep.failed_points(sweep.asked[-1]) if sweep.asked else {}
        line = ended(failed) if failed else killed(error) or said(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        for point, reason in failed.items():
            print(f"  {point}: {reason}", file=sys.stderr)
        raise SystemExit(1) from None


def quieten() -> None:
    """Of what other libraries say, leave what a user can act on; in each process, as a sweep's points may run in others."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then hands errors on instead of printing them
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.callbacks",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # says in three lines what the error says too
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # loading as many scenes ahead as there are cores is the user's choice, data.num_workers
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # epochs without a validation have no figure by which the best checkpoint could be chosen
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    # a run that goes on has checkpoints
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def ended(failed: dict[str, str]) -> str:
    """How a sweep with failed points ended."""
    points = len(sweep.asked[-1].points)
    done = sweep.finished_points(sweep.asked[-1])
    others = "all others are done" if done + len(failed) >= points else f"{done} of {points} are done"
    return f"{len(failed)} of the sweep's points failed, {others}"


def killed(error: BaseException) -> str | None:
    """What to say where a process that ran a sweep's points is gone, whichever launcher had started it; None for all else."""
    if not sweep.asked or type(error).__name__ not in (
        "TerminatedWorkerError",
        "BrokenProcessPool",
        "WorkerCrashedError",
        "UncompletedJobError",
    ):
        return None
    done, points = sweep.finished_points(sweep.asked[-1]), len(sweep.asked[-1].points)
    return f"a process of the sweep was killed, or ran out of memory; {done} of {points} points are done: the same command goes on"


def hydra_command(name: str, function: Callable[[DictConfig], Any]) -> Callable[[], Any]:
    """Return Hydra's command line for a function of the composed config `conf/<name>.yaml`."""
    command: Callable[[], Any] = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(
        function
    )
    return command


def plainly(function: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """A slip in a single run ends here with its one line, before which Hydra would put its own; a sweep's point leaves its reason and goes on."""

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> Any:
        job_config = HydraConfig.get()
        reason = Path(job_config.runtime.output_dir) / sweep.REASON
        sweeping = job_config.mode == RunMode.MULTIRUN
        quieten()
        try:
            if sweeping:
                reason.unlink(missing_ok=True)
            return function(config)
        except (
            SIGTERMException
        ):  # a SystemExit without a status: whoever started us would take the work for done
            print(f"error: stopped by SIGTERM; what was finished lies in {reason.parent}", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM) from None
        except (KeyboardInterrupt, SystemExit) as stop:
            # Lightning answers Ctrl-C by itself, without a word, and exits
            if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            print(
                f"error: stopped by Ctrl-C; what was finished lies in {reason.parent}: hydra.run.dir={reason.parent} goes on with a scoring, "
                "resume= with a training, the same command with a prediction",
                file=sys.stderr,
            )
            raise SystemExit(128 + signal.SIGINT) from None
        except Exception as error:
            line = said(error)
            if sweeping:
                write_whole(reason, (line or traceback.format_exc()) + "\n")
                print(f"{reason.parent.name} failed: {line or traceback.format_exc()}", file=sys.stderr)
            if sweeping or line is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            raise SystemExit(1) from None

    return wrapped


def said(error: BaseException) -> str | None:
    """What a user's slip or the file system says, on one line; None for a fault of ours."""
    if isinstance(error, OverrideParseException):
        return f"{one_line(error)}; quote each name that holds brackets, commas or other signs of Hydra's grammar: \"images=['photo (1).png']\""
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in OF_THE_FILE_SYSTEM:
        return f"{error.filename or 'the file system'}: {error.strerror}: name a folder that can be written, such as hydra.run.dir=outputs/mine"
    return None


def one_line(error: BaseException) -> str:
    """What the error says, on one line; an error that crossed a process or an interpolation is stripped to its own words."""
    text = str(error)
    marker = f"{UserError.__module__}.{UserError.__qualname__}: "
    if marker in text:
        return text.split(marker)[-1].strip().splitlines()[0]
    if isinstance(error.__cause__, UserError | OmegaConfBaseException) and not isinstance(error, UserError):
        reason = one_line(error.__cause__)
        if not text.startswith("Could not override"):
            return reason
        remedy = f"; `--cfg job` prints all keys; of a run, evaluate.py changes {', '.join(FROM_RUN)} alone"
        return f"{text.splitlines()[0]} {reason}{similar_key(error.__cause__) + remedy if 'is not in struct' in reason else ''}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group and error.options:
            known = ", ".join(sorted(error.options))
            return f"{group} must be one of {known}, got {option}{did_you_mean(option, error.options)}"
    noise = (
        "full_key",
        "object_type",
        "reference_type",
        "See https://hydra.cc",
        "Config search path",
        "provider=",
    )
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(noise)
    ]
    return "; ".join(lines)


def similar_key(error: BaseException) -> str:
    """Return a suggestion for a key that is not in the config: one of the same group, else of any group."""
    node: Any = getattr(error, "parent_node", None)
    wrong = str(getattr(error, "key", ""))
    if not OmegaConf.is_dict(node):
        return ""
    siblings = did_you_mean(wrong, [str(key) for key in node])
    root = node._get_root()
    groups = {group: root._get_node(group) for group in root}
    elsewhere = [
        f"{group}.{wrong}"
        for group, keys in groups.items()
        if OmegaConf.is_dict(keys) and wrong in list(keys)
    ]
    return siblings or (f". Did you mean {' or '.join(elsewhere)}?" if elsewhere else "")


def without_null_groups(arguments: list[str]) -> list[str]:
    """Return the arguments with `group=null` and `group=none` as Hydra takes them: as the group's option `none`, or left out.

    Raises:
        UserError: for a group that a run cannot do without.
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
        elif group in OFF_BY_DEFAULT and len(values) == 1:
            kept = [earlier for earlier in kept if not earlier.startswith(f"{group}=")]
        else:
            raise UserError(f"{group} must be one of {', '.join(options_of_group(group))}, got {value}")
    return kept


def prepared(arguments: list[str]) -> list[str]:
    """The arguments with their paths quoted, after the groups of the run that they name have been stored as the option `run`.

    So Hydra's overrides work on a run's settings as on any others.

    Raises:
        UserError: the run folder does not exist or is none, a sweep would resume, or one is named without -m.
    """
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    sweeping = bool(flags)
    arguments = flags + [
        argument for argument in arguments if argument not in flags
    ]  # Hydra's parser wants no flag between overrides
    arguments = without_null_groups([todays_override(argument) for argument in arguments])
    resume = named(arguments, "resume")
    if resume is not None and sweeping:
        raise UserError("resume goes on with one run: leave -m out")
    for group in ("sweep", "launcher"):
        if "," in (named(arguments, group) or ""):
            raise UserError(f"{group}={named(arguments, group)}: one at a time, each in a command of its own")
    if named(arguments, "sweep") is not None and not sweeping:
        raise UserError("sweep names several points: add -m")
    check_launcher(named(arguments, "launcher"))
    offer_run(named(arguments, "run"), resume)
    if resume is not None and named(arguments, "logger") is None:
        arguments = [*arguments, "logger=run"]
    quoted_arguments = [quoted(argument, sweeping) for argument in arguments]
    scoring = any(named(arguments, key) is not None for key in ("run", "predictions"))
    if sweeping and not scoring and named(arguments, "hydra.sweep.dir") is None:
        quoted_arguments.append(f"hydra.sweep.dir='{sweep.sweep_folder(quoted_arguments)}'")
    return quoted_arguments


def check_launcher(launcher: str | None) -> None:
    """Refuse a launcher whose extra is not installed.

    Raises:
        UserError: naming the extra.
    """
    extra = (launcher or "").removesuffix("_local")
    if extra in LAUNCHERS and importlib.util.find_spec(f"hydra_plugins.hydra_{extra}_launcher") is None:
        raise UserError(f"launcher={launcher} needs an extra of this package: pip install 'rpe[{extra}]'")


def named(arguments: list[str], key: str) -> str | None:
    """What the last argument `key=value` names; None without one, or for null."""
    values = [
        argument.removeprefix(f"{key}=").strip("'\"")
        for argument in arguments
        if argument.startswith(f"{key}=")
    ]
    return values[-1] if values and values[-1] not in ("", "null") else None


def quoted(argument: str, sweeping: bool) -> str:
    """`key='value'` for the keys that take paths; commas part the values of a sweep, and what is quoted or interpolated stays."""
    key, given, value = argument.partition("=")
    if (
        key.lstrip("+") not in PATHS
        or value in ("", "null")
        or value[0] in "'\""
        or "${" in value
        or re.match(r"(choice|glob)\(", value)
    ):
        return argument
    if value[0] == "[" and value[-1] == "]" and not os.path.exists(value):  # noqa: PTH110 (of a long list Path's raises)
        # a list of files, whose names may hold brackets too; where it has quotes, it is as Hydra wants it
        if re.search("['\"]", value):
            return argument
        items = [
            item if re.fullmatch(r"[\w./-]*", item) else in_quotes(item)
            for item in map(str.strip, value[1:-1].split(","))
        ]
        return f"{key}{given}[{','.join(items)}]"
    values = value.split(",") if sweeping and not key.startswith("hydra.") else [value]
    return key + given + ",".join(map(in_quotes, values))


def in_quotes(value: str) -> str:
    """Return a path as Hydra's grammar takes it, whatever it holds."""
    return "'" + value.replace("'", "\\'") + "'"


def offer_run(run: str | None, resume: str | None) -> None:
    """Store what evaluate.py takes from the run, and the logger of the run that goes on."""
    saved = read_run(run) if run is not None else {}
    for group in FROM_RUN:
        node = saved.get(group, {"name": None} if group == "data" else {})
        if group == "trainer" and node:
            node["limit_test_batches"] = (
                1.0  # a run that was tried on two batches is evaluated on the whole split
            )
        ConfigStore.instance().store(group=group, name="run", node=node, provider="run folder")
    logger = read_run(resume).get("logger", {}) if resume is not None else {}
    ConfigStore.instance().store(group="logger", name="run", node=logger, provider="run folder")


def train_folder(resume: str | None, fresh: str) -> str:
    """Where a training writes: its own new folder, or the one that it goes on with."""
    return fresh if resume is None else str(run_folder(resume))


def prediction_folder(output: str | None, now: str) -> str:
    """Where a prediction writes: where it is told to, else among the outputs; `output=` tells nothing."""
    return str(output) if output else f"outputs/predict/{now}"


def evaluation_folder(run: str | None, data: str | None, split: str, now: str) -> str:
    """Where an evaluation writes: into the run that it evaluates, else among the outputs."""
    return (
        f"outputs/evaluate/{now}" if run is None else str(run_folder(run) / "evaluation" / f"{data}-{split}")
    )


OmegaConf.register_new_resolver("rpe.train_folder", train_folder, replace=True)
OmegaConf.register_new_resolver("rpe.title", sweep.title, replace=True)
OmegaConf.register_new_resolver(
    "rpe.point_folder", lambda overrides, folder: sweep.point_name(list(overrides), folder), replace=True
)
OmegaConf.register_new_resolver("rpe.gpus", lambda least: max(least, torch.cuda.device_count()), replace=True)
OmegaConf.register_new_resolver(
    "rpe.gpus_of_a_point", lambda: min(1, torch.cuda.device_count()), replace=True
)
OmegaConf.register_new_resolver("rpe.prediction_folder", prediction_folder, replace=True)
OmegaConf.register_new_resolver("rpe.evaluation_folder", evaluation_folder, replace=True)
OmegaConf.register_new_resolver("rpe.job", job, replace=True)
