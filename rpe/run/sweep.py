"""A sweep: where it lives, what its points are called, what became of each.

`outputs/<experiment>/sweep/<name>/<overrides>/`: no time stamp, so that the same command finds what it has done. Hydra knows no resuming (its issue 3328); here a
finished point is known by its `metrics.json`, which is written last, and a point that is asked for again is skipped, gone on with or begun
(`rpe.sweep.point`), whatever launcher asks. `sweep.yaml` says which points were asked for, and by which commands.
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

from rpe.run.lock import held
from rpe.run_files import read_yaml, write_whole
from rpe.structures import UserError

REASON = "error.txt"
"""In a failed point's folder: one line for a slip, the stack trace for a fault."""

RECORD = "sweep.yaml"
"""In the sweep's folder: `commands`, and of each point's folder its values (`points`) and its overrides as they were said."""

UNRECORDED = ("sweep", "launcher")
"""What says how a sweep is run, not what its points are."""

UNNAMED = ("sweep", "launcher", "logger", "callback")
"""Groups that change no result, or stand in the sweep's own path: a point is the same point under another launcher or logger. Swept, they would make several
points of one."""

LONGEST = 100
"""Characters of a point's name; file systems take 255 bytes, people less."""


class Sweep(NamedTuple):
    """What this process has been asked for: the sweep's folder and its points' names."""

    folder: Path
    points: list[str]


asked: list[Sweep] = []
"""The sweeps that this process has started, the newest last."""


def title(experiment: str | None, data: str | None) -> str:
    """Return what the output folder of a training is named after: its experiment, else its data."""
    return experiment or data or "unnamed"


def is_named(override: str, folder: str) -> bool:
    """Whether an override is a part of its point's name; experiment and data are where the sweep's folder does not say them."""
    if key_of(override) in ("experiment", "data"):
        return f"/{override.partition('=')[2]}/sweep/" not in f"/{folder}/"
    return key_of(override).split(".")[0] not in UNNAMED


def key_of(override: str) -> str:
    """The key of `key=value`, `+key=value` or `~key`."""
    return override.split("=")[0].lstrip("+~")


def point_name(overrides: list[str], folder: str) -> str:
    """A point's folder: its overrides in a fixed order as letters, digits and -_. alone, so that it can be named on a command line; a hash where that is
    longer than `LONGEST`, and at its end where it would stand for other overrides too. `folder` is the sweep's."""
    chosen = sorted(override for override in overrides if is_named(override, folder))
    written = "_".join(override.replace("=", "-", 1) for override in chosen)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", written)
    if len(name) > LONGEST:
        return digest(chosen, 16)
    return name + ("" if name == written else f"_{digest(chosen, 8)}") or "defaults"


def digest(texts: list[str], length: int) -> str:
    """So many hex digits of texts in any order."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:length]


def sweep_folder(arguments: list[str]) -> str:
    """Where the sweep of a command line lives: `outputs/<experiment, else data>/sweep/<name of conf/sweep, or 8 hex digits of the swept overrides>`.

    Raises:
        HydraException: an argument that Hydra cannot read.
    """
    # flags and their values are none of Hydra's overrides
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
    # an experiment that is swept is an axis of a sweep that belongs to no single one
    several = any(key_of(text) in ("experiment", "data") for text in swept)
    name = values.get("sweep", "null")
    of = "several" if several else title(values.get("experiment"), values.get("data"))
    return f"outputs/{of}/sweep/{digest(swept, 8) if name == 'null' else name}"


def points_of(config: DictConfig) -> dict[str, list[str]]:
    """The overrides of each of the sweep's points, by its name, as Hydra's sweeper will form them.

    Raises:
        UserError: two points would be one, as what tells them apart is no part of a point's name.
    """
    preset = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*preset, *config.hydra.overrides.task])
    (points,) = BasicSweeper.split_arguments(parsed, None)
    named: dict[str, list[str]] = {}
    for overrides in points:
        name = point_name(overrides, config.hydra.sweep.dir)
        if named.setdefault(name, overrides) != overrides:
            (one, *_) = sorted(set(overrides) ^ set(named[name]))
            raise UserError(
                f"{key_of(one)} cannot be swept: it changes no figure, or is a sweep of its own; give each of its values a command"
            )
    return named


def is_own_folder(override: str) -> bool:
    """Whether it is the folder that `sweep_folder` gave."""
    return re.match(r"hydra\.sweep\.dir='outputs/[^/]+/sweep/[^/]+'$", override) is not None


def values_of(overrides: list[str]) -> dict[str, Any]:
    """Overrides as keys and plain values; what YAML cannot read stays text."""
    values: dict[str, Any] = {}
    for text in overrides:
        key, _, value = text.partition("=")
        if key_of(key) not in UNRECORDED:
            try:
                values[key_of(key)] = yaml.safe_load(value)
            except yaml.YAMLError:
                values[key_of(key)] = value
    return values


def is_grid(config: DictConfig) -> bool:
    """Return whether Hydra's own sweeper runs, whose jobs are known before the first one starts."""
    return str(config.hydra.sweeper._target_).endswith(".BasicSweeper")


def record(folder: Path, command: str | None, points: dict[str, list[str]]) -> None:
    """Add a command and its jobs to the sweep's record."""
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, f"another command is being added to {folder}"):
        known = read_yaml(folder / RECORD) if (folder / RECORD).is_file() else {}
        commands = list(dict.fromkeys([*known.get("commands", []), *([] if command is None else [command])]))
        every = known.get("points", {}) | {name: values_of(overrides) for name, overrides in points.items()}
        said = known.get("overrides", {}) | {
            name: [text for text in overrides if key_of(text) not in UNRECORDED]
            for name, overrides in points.items()
        }
        write_whole(
            folder / RECORD,
            yaml.safe_dump({"commands": commands, "points": every, "overrides": said}, sort_keys=False),
        )


class Remember(Callback):
    """Writes down what is asked for before the first point runs, and says at the end where it lies."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(
            config
        )  # Hydra does so after its callbacks, and folders' names ask it
        folder = Path(config.hydra.sweep.dir)
        if (
            "experiment" not in config.hydra.runtime.choices
        ):  # scorings lie side by side and are not gone on with
            asked.append(Sweep(folder, []))
            return
        try:
            self.start(folder, config)
        except (UserError, OSError) as error:  # Hydra would warn of it and go on
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    def start(self, folder: Path, config: DictConfig) -> None:
        """Write the record before the first job runs."""
        points = points_of(config) if is_grid(config) else {}
        asked.append(Sweep(folder, list(points)))
        of_hydra = [
            text
            for text in config.hydra.overrides.hydra
            if not text.startswith("hydra.mode") and not is_own_folder(text)
        ]
        said = [shlex.quote(str(override)) for override in (*config.hydra.overrides.task, *of_hydra)]
        record(folder, " ".join(["python train.py -m", *said]), points)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Record a job that a sweeper chose by the scores of earlier ones, so that no record could be made before."""
        if (
            config.hydra.mode == RunMode.MULTIRUN
            and "experiment" in config.hydra.runtime.choices
            and not is_grid(config)
        ):
            folder = Path(config.hydra.runtime.output_dir)
            record(folder.parent, None, {folder.name: list(config.hydra.overrides.task)})

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if asked and asked[-1].points:
            print(
                f"{len(asked[-1].points)} points are done: python -m rpe.tools.report sweep={shlex.quote(str(asked[-1].folder))}",
                flush=True,
            )


def failed_points(sweep: Sweep) -> dict[str, str]:
    """The points of this command that failed, by their folder, and the last line of the reason."""
    reasons = sorted(sweep.folder.rglob(REASON), key=lambda file: (file.stat().st_mtime_ns, file))
    mine = {
        str(file.parent.relative_to(sweep.folder)): file.read_text().strip().splitlines()[-1]
        for file in reasons
    }
    return {point: reason for point, reason in mine.items() if not sweep.points or point in sweep.points}


def finished_points(sweep: Sweep) -> int:
    """How many of this command's points have their figures."""
    return sum((sweep.folder / point / "metrics.json").is_file() for point in sweep.points)
