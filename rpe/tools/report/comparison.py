"""Compare the jobs of a sweep.

A sweep varies some keys, its axes. Jobs that differ by their seed alone are one setting. The mean over seeds
chooses the best setting, and a command repeats its best job.
"""

import math
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rpe.errors import UserError, spell_commands
from rpe.run_files import flatten_settings, read_yaml, rows_to_csv
from rpe.tools.report.jobs import BROKEN, FINISHED, Job, SweepFolder

MAIN_METRIC = ("AR@10", "ODS", "mIoU")
"""Main metric of each task. The first one present is compared by default."""

MAIN_METRICS = ("AR@10", "AR@100", "AP50", "PQ", "ARI-modes", "ODS", "OIS", "AP", "mIoU")
"""Metrics of the short table; the CSV has all."""

DERIVED = {"grouping.margin": "loss.pairwise.margin", "task.seed": "seed", "data.seed": "seed"}
"""Config keys that interpolate another one, so they change with it."""

LOWER_IS_BETTER = ("margin_violations",)
"""Beginnings of the metrics of which less is better."""

DEFAULT_VALUE = "default"
"""A key's value in a job whose command and config do not show it, such as the option of a group."""


@dataclass
class SweepSetting:
    """The jobs that differ by their seed alone.

    Args:
        values: by axis, in the order of the axes.
        jobs: one for each seed.
    """

    values: dict[str, Any]
    jobs: list[Job]

    @property
    def name(self) -> str:
        """Return the setting as overrides, or `all` without axes."""
        return ", ".join(f"{axis}={format_override(value)}" for axis, value in self.values.items()) or "all"

    def metric_values(self, name: str) -> list[float]:
        """Return the finite values of a metric, of the finished jobs."""
        if name == "seconds":
            return [job.seconds for job in self.jobs if job.state == FINISHED and math.isfinite(job.seconds)]
        values = [job.metrics.get(name, math.nan) for job in self.jobs if job.state == FINISHED]
        return [value for value in values if math.isfinite(value)]


@dataclass
class Comparison:
    """A sweep's settings along its axes, and the metric by which they are compared."""

    sweep: SweepFolder
    axes: dict[str, list[Any]]
    settings: list[SweepSetting]
    metric: str
    metrics: list[str]
    best: SweepSetting | None


def format_override(value: Any) -> str:
    """Return a value as a command line writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ",".join(format_override(item) for item in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def spread(values: list[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (over n - 1; NaN of fewer than two values)."""
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def parse_number(value: Any) -> Any:
    """Return the value of an override that a sweep recorded as text."""
    if not isinstance(value, str):
        return value
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    try:
        return float(read) if isinstance(read, str) else read  # YAML reads 1e-3 as text
    except ValueError:
        return read


def job_values(job: Job, keys: list[str]) -> dict[str, Any]:
    """Return the job's value of each key: from its command, else from its config."""
    flat = flatten_settings(job.config)
    return {key: parse_number(job.overrides.get(key, flat.get(key, DEFAULT_VALUE))) for key in keys}


def sort_values(values: list[Any]) -> list[Any]:
    """Return the distinct values, numbers by size, others by text."""
    different = list({repr(value): value for value in values}.values())
    return sorted(
        different,
        key=lambda value: (not is_numeric(value), value if is_numeric(value) else 0, format_override(value)),
    )


def is_numeric(value: Any) -> bool:
    """Return whether a value has a position on a numeric axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_axes(sweep: SweepFolder) -> dict[str, list[Any]]:
    """Return the keys with more than one value, and these values; `seed` is not an axis."""
    jobs = sweep.jobs if sweep.recorded else [job for job in sweep.jobs if job.config]
    if sweep.recorded:
        keys = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    else:
        keys = list(dict.fromkeys(key for job in jobs for key in flatten_settings(job.config)))
    table = [job_values(job, keys) for job in jobs]
    columns = {key: [row[key] for row in table] for key in keys}
    varied = {key: column for key, column in columns.items() if len({repr(value) for value in column}) > 1}
    if not sweep.recorded:
        varied = drop_dependent(varied)
    varied.pop("seed", None)
    return {key: sort_values(column) for key, column in varied.items()}


def drop_dependent(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Keep one of the keys that change together.

    A derived key is dropped first, then the later one in the config.
    """
    kept: dict[str, list[Any]] = {}
    seen: dict[tuple[int, ...], str] = {}
    for key in sorted(columns, key=lambda key: (key != "seed", key in DERIVED)):
        order = list(dict.fromkeys(repr(value) for value in columns[key]))
        pattern = tuple(order.index(repr(value)) for value in columns[key])
        # a key that changes with the seed is kept
        if seen.get(pattern, "seed") == "seed" and (pattern not in seen or DERIVED.get(key) != "seed"):
            seen[pattern] = key
            kept[key] = columns[key]
    return {key: kept[key] for key in columns if key in kept}


def compare(sweep: SweepFolder, metric: str | None) -> Comparison:
    """Compare the sweep's settings.

    Args:
        sweep: the sweep.
        metric: the metric that chooses the best setting; None is the one that chooses the task's checkpoint.

    Raises:
        UserError: no finished job has the metric.
    """
    finished = [job for job in sweep.jobs if job.state == FINISHED]
    known = list(dict.fromkeys(name for job in finished for name in job.metrics))
    if metric is not None and known and metric not in known:
        raise UserError(f"metric must be one of {', '.join(known)}, got {metric}.")
    chosen = metric or next(
        (name for name in MAIN_METRIC if name in known), known[0] if known else MAIN_METRIC[0]
    )
    axes = find_axes(sweep)
    settings: dict[tuple[str, ...], SweepSetting] = {}
    for job in sweep.jobs:
        if not sweep.recorded and not job.config:
            continue
        values = job_values(job, list(axes))
        settings.setdefault(
            tuple(repr(value) for value in values.values()), SweepSetting(values, [])
        ).jobs.append(job)
    places = {axis: [repr(value) for value in values] for axis, values in axes.items()}
    ordered = sorted(
        settings.values(),
        key=lambda setting: [places[axis].index(repr(value)) for axis, value in setting.values.items()],
    )
    sign = -1 if chosen.startswith(LOWER_IS_BETTER) else 1
    scored = [setting for setting in ordered if setting.metric_values(chosen)]
    best = max(scored, key=lambda setting: sign * spread(setting.metric_values(chosen))[0], default=None)
    return Comparison(
        sweep,
        axes,
        ordered,
        chosen,
        list(dict.fromkeys([chosen, *(name for name in MAIN_METRICS if name in known)]))[:6],
        best,
    )


def repeat_command(comparison: Comparison) -> str:
    """Return the command of the best setting's best seed; empty where no job has finished."""
    if comparison.best is None:
        return ""
    sign = -1 if comparison.metric.startswith(LOWER_IS_BETTER) else 1
    finished = [
        job
        for job in comparison.best.jobs
        if math.isfinite(job.metrics.get(comparison.metric, math.nan)) and job.state != BROKEN
    ]
    job = max(finished, key=lambda job: sign * job.metrics[comparison.metric])
    if job.folder.name in comparison.sweep.texts:
        return " ".join(
            [
                spell_commands("python train.py"),
                *(shlex.quote(text) for text in comparison.sweep.texts[job.folder.name]),
            ]
        )
    overrides = dict(job.overrides)
    if not comparison.sweep.recorded:
        overrides = (
            constant_overrides(comparison.sweep.folder)
            | comparison.best.values
            | {"seed": job.config.get("seed", 0)}
        )
    order = sorted(overrides, key=lambda key: (key != "experiment", "." in key))
    return " ".join(
        [
            spell_commands("python train.py"),
            *(shlex.quote(f"{key}={format_override(overrides[key])}") for key in order),
        ]
    )


def constant_overrides(folder: Path) -> dict[str, Any]:
    """Return the overrides in Hydra's own record of a sweep without sweep.yaml."""
    try:
        overrides = read_yaml(folder / "multirun.yaml")["hydra"]["overrides"]["task"]
    except (UserError, OSError, KeyError, TypeError):
        return {}
    return dict(override.split("=", 1) for override in overrides if "=" in str(override))


def format_csv(comparison: Comparison) -> str:
    """Return a row for each job: its values, its state, and all metrics."""
    jobs = comparison.sweep.jobs
    keys = [*comparison.axes, "seed"]
    metrics = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    rows = [["job", "state", *keys, "seconds", *metrics]]
    for job in jobs:
        values = [format_override(value) for value in job_values(job, keys).values()]
        numbers = [
            "" if math.isnan(value) else repr(value)
            for value in (job.seconds, *(job.metrics.get(name, math.nan) for name in metrics))
        ]
        rows.append([job.name, job.state, *values, *numbers])
    return rows_to_csv(rows)
