"""Name the folders of a sweep and its jobs, and keep the sweep's record.

A job lives in `outputs/<experiment>/sweep/<name>/<overrides>/`. The path holds no time, so the same command
finds the jobs that are done. Hydra itself cannot resume a sweep (its issue 3328). A finished job has a
`metrics.json`, which is written last. A job that is started again is skipped, resumed or begun
(`rpe.sweep.job`), under every launcher. `sweep.yaml` lists the jobs and the commands that started them.
"""

import hashlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from rpe.errors import UserError, spell_commands
from rpe.older_runs import with_todays_keys
from rpe.run.lock import hold_folder
from rpe.run_files import read_yaml, write_whole

ERROR_FILE = "error.txt"
"""In a failed job's folder: one line for a user's mistake, the stack trace for a bug."""

IN_SWEEP = "RPE_JOB_OF_A_SWEEP"
"""Environment variable of the command that trains a job of several ranks, and of its ranks: they resume as a
job does."""

RECORD_FILE = "sweep.yaml"
"""In the sweep's folder: its `commands`, and by the name of each job's folder its values (`jobs`) and the
text of its overrides (`overrides`)."""

EXECUTION_GROUPS = ("sweep", "launcher")
"""Keys that say how a sweep is run; they belong to no job."""

UNNAMED_GROUPS = ("sweep", "launcher", "logger", "callbacks")
"""Groups that change no metric, or that the sweep's path holds already. A job is the same under another
launcher or logger. A sweep over one of these would give several jobs one name."""

MAX_NAME_LENGTH = 100
"""Characters of a job's name; file systems take 255 bytes, but people read it."""


class StartedSweep(NamedTuple):
    """A sweep that this process started: its folder and the names of its jobs."""

    folder: Path
    jobs: list[str]


started_sweeps: list[StartedSweep] = []
"""The sweeps that this process has started, the newest last."""


def choose_title(experiment: str | None, data: str | None) -> str:
    """Return the title of a training's output folder: its experiment, else its data."""
    return experiment or data or "unnamed"


def is_named(override: str, folder: str) -> bool:
    """Return whether an override is part of its job's name.

    Experiment and data are, unless the sweep's folder names them.
    """
    if override_key(override) in ("experiment", "data"):
        return f"/{override.partition('=')[2]}/sweep/" not in f"/{folder}/"
    return override_key(override).split(".")[0] not in UNNAMED_GROUPS


def override_key(override: str) -> str:
    """Return the key of `key=value`, `+key=value` or `~key`."""
    return override.split("=")[0].lstrip("+~")


def job_name(overrides: list[str], folder: str) -> str:
    """Return the name of a job's folder: its overrides in a fixed order, as letters, digits, `-`, `_` and
    `.`.

    So it needs no quotes on a command line. A name over `MAX_NAME_LENGTH` becomes a hash. A name that other
    overrides could have too ends in a hash.

    Args:
        overrides: the job's overrides.
        folder: the sweep's folder.
    """
    chosen = sorted(override for override in overrides if is_named(override, folder))
    written = "_".join(override.replace("=", "-", 1) for override in chosen)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", written)
    if len(name) > MAX_NAME_LENGTH:
        return hash_texts(chosen, 16)
    return name + ("" if name == written else f"_{hash_texts(chosen, 8)}") or "defaults"


def hash_texts(texts: list[str], length: int) -> str:
    """Return the first hex digits of the hash of texts in any order."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:length]


def sweep_folder(arguments: list[str]) -> str:
    """Return the folder of a command line's sweep: `outputs/<experiment, else data>/sweep/<name>`.

    The name is the option of conf/sweep, else 8 hex digits of the swept overrides.

    Raises:
        HydraException: Hydra cannot parse an argument.
    """
    # flags and their values are not overrides
    overrides = [
        argument
        for argument in arguments
        if not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
    ]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [text for text, override in zip(overrides, parsed, strict=True) if override.is_sweep_override()]
    values = {
        override.key_or_group: str(override.get_value_element_as_str())
        for override in parsed
        if not override.is_sweep_override()
    }
    # a sweep over experiments belongs to no single one
    several = any(override_key(text) in ("experiment", "data") for text in swept)
    name = values.get("sweep", "null")
    parent = "several" if several else choose_title(values.get("experiment"), values.get("data"))
    return f"outputs/{parent}/sweep/{hash_texts(swept, 8) if name == 'null' else name}"


def list_jobs(config: DictConfig) -> dict[str, list[str]]:
    """Return the overrides of each job by its name, as Hydra's sweeper will form them.

    Raises:
        UserError: two jobs would have one name, as the key that distinguishes them is not part of a name.
    """
    preset = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*preset, *config.hydra.overrides.task])
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    named: dict[str, list[str]] = {}
    for overrides in jobs:
        name = job_name(overrides, config.hydra.sweep.dir)
        if named.setdefault(name, overrides) != overrides:
            (one, *_) = sorted(set(overrides) ^ set(named[name]))
            raise UserError(
                f"{override_key(one)} must be one value in a sweep, got several. "
                "Start a command for each: it changes no metric, or names a sweep of its own."
            )
    return named


def is_own_folder(override: str) -> bool:
    """Return whether an override is the folder that `sweep_folder` chose."""
    return re.match(r"hydra\.sweep\.dir='outputs/[^/]+/sweep/[^/]+'$", override) is not None


def parse_values(overrides: list[str]) -> dict[str, Any]:
    """Return overrides as keys and plain values; a value that YAML cannot read stays text."""
    values: dict[str, Any] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        if override_key(key) not in EXECUTION_GROUPS:
            try:
                values[override_key(key)] = yaml.safe_load(value)
            except yaml.YAMLError:
                values[override_key(key)] = value
    return values


def is_grid(config: DictConfig) -> bool:
    """Return whether Hydra's own sweeper runs, whose jobs are known before the first one starts."""
    return str(config.hydra.sweeper._target_).endswith(".BasicSweeper")


def record_jobs(folder: Path, command: str | None, jobs: dict[str, list[str]]) -> None:
    """Add a command and its jobs to the sweep's record."""
    folder.mkdir(parents=True, exist_ok=True)
    with hold_folder(folder, f"{folder} is locked by another command"):
        known = with_todays_keys(read_yaml(folder / RECORD_FILE)) if (folder / RECORD_FILE).is_file() else {}
        commands = list(dict.fromkeys([*known.get("commands", []), *([] if command is None else [command])]))
        values = known.get("jobs", {}) | {name: parse_values(overrides) for name, overrides in jobs.items()}
        kept = known.get("overrides", {}) | {
            name: [text for text in overrides if override_key(text) not in EXECUTION_GROUPS]
            for name, overrides in jobs.items()
        }
        write_whole(
            folder / RECORD_FILE,
            yaml.safe_dump({"commands": commands, "jobs": values, "overrides": kept}, sort_keys=False),
        )


class SweepRecorder(Callback):
    """The Hydra callback that records a sweep's jobs before the first one runs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra does so after its callbacks, and the names of folders need it
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra.sweep.dir)
        if "experiment" not in config.hydra.runtime.choices:  # evaluations are not resumed
            started_sweeps.append(StartedSweep(folder, []))
            return
        try:
            self.start(folder, config)
        except (UserError, OSError) as error:  # Hydra would print a warning and continue
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    def start(self, folder: Path, config: DictConfig) -> None:
        """Write the record before the first job runs."""
        jobs = list_jobs(config) if is_grid(config) else {}
        started_sweeps.append(StartedSweep(folder, list(jobs)))
        hydra_overrides = [
            text
            for text in config.hydra.overrides.hydra
            if not text.startswith("hydra.mode") and not is_own_folder(text)
        ]
        overrides = [
            shlex.quote(str(override)) for override in (*config.hydra.overrides.task, *hydra_overrides)
        ]
        record_jobs(folder, " ".join([spell_commands("python train.py -m"), *overrides]), jobs)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Record a job that a sweeper chose by the scores of earlier ones."""
        if (
            config.hydra.mode == RunMode.MULTIRUN
            and "experiment" in config.hydra.runtime.choices
            and not is_grid(config)
        ):
            folder = Path(config.hydra.runtime.output_dir)
            record_jobs(folder.parent, None, {folder.name: list(config.hydra.overrides.task)})

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if started_sweeps and started_sweeps[-1].jobs:
            report = f"python -m rpe.tools.report sweep={shlex.quote(str(started_sweeps[-1].folder))}"
            print(f"{len(started_sweeps[-1].jobs)} jobs are done: {spell_commands(report)}", flush=True)


def find_failed_jobs(sweep: StartedSweep) -> dict[str, str]:
    """Return this command's failed jobs by their folder, each with the last line of its error."""
    reasons = sorted(sweep.folder.rglob(ERROR_FILE), key=lambda file: (file.stat().st_mtime_ns, file))
    mine = {
        str(file.parent.relative_to(sweep.folder)): file.read_text().strip().splitlines()[-1]
        for file in reasons
    }
    return {job: reason for job, reason in mine.items() if not sweep.jobs or job in sweep.jobs}


def count_finished_jobs(sweep: StartedSweep) -> int:
    """Return how many of this command's jobs have a `metrics.json`."""
    return sum((sweep.folder / job / "metrics.json").is_file() for job in sweep.jobs)
