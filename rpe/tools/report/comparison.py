"""Points compared: which keys a sweep varies, mean and spread over seeds of each setting, the best one and the command that repeats it."""

import csv
import io
import math
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rpe.errors import UserError
from rpe.run_files import read_yaml
from rpe.tools.report.points import BROKEN, FINISHED, Point, Sweep, dotted

MONITORED = ("AR@10", "ODS", "mIoU")
"""What the tasks choose their checkpoints by; the first that the figures hold is the one compared unless told otherwise."""

MAIN = ("AR@10", "AR@100", "AP50", "PQ", "ARI-modes", "ODS", "OIS", "AP", "mIoU")
"""Figures of the short table; the CSV has all."""

DERIVED = {"grouping.margin": "loss.margin", "task.seed": "seed", "data.seed": "seed"}
"""Config keys that interpolate another one, so they move with it."""

LOWER_IS_BETTER = ("margin_violations",)
"""Beginnings of the figures of which less is better."""

MISSING = "default"
"""A key's value at a point whose command did not name it and whose config does not show it, such as the choice of a group."""


@dataclass
class Setting:
    """All points that differ by their seed alone. Args: values: by axis, in the order of the axes."""

    values: dict[str, Any]
    points: list[Point]

    @property
    def name(self) -> str:
        return ", ".join(f"{axis}={shown(value)}" for axis, value in self.values.items()) or "all"

    def figure(self, name: str) -> list[float]:
        """Of the finished points, the values that are numbers."""
        if name == "seconds":
            return [
                point.seconds
                for point in self.points
                if point.state == FINISHED and math.isfinite(point.seconds)
            ]
        values = [point.figures.get(name, math.nan) for point in self.points if point.state == FINISHED]
        return [value for value in values if math.isfinite(value)]


@dataclass
class Comparison:
    """A sweep's settings along its axes, and the figure by which they are compared."""

    sweep: Sweep
    axes: dict[str, list[Any]]
    settings: list[Setting]
    figure: str
    figures: list[str]
    best: Setting | None


def shown(value: Any) -> str:
    """A value as on a command line."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ",".join(shown(item) for item in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def spread(values: list[float]) -> tuple[float, float]:
    """Mean, and standard deviation over seeds (n - 1 below the root; NaN of fewer than two)."""
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def number_of(value: Any) -> Any:
    """An override as the value that it stands for: sweeps may keep them as they were written."""
    if not isinstance(value, str):
        return value
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    try:
        return float(read) if isinstance(read, str) else read  # YAML takes 1e-3 for text
    except ValueError:
        return read


def values_of(point: Point, keys: list[str]) -> dict[str, Any]:
    """The point's value of each key: as its command said, else as its config says."""
    flat = dotted(point.config)
    return {key: number_of(point.overrides.get(key, flat.get(key, MISSING))) for key in keys}


def sorted_values(values: list[Any]) -> list[Any]:
    """Without doubles; numbers by size, all else by its text."""
    different = list({repr(value): value for value in values}.values())
    return sorted(
        different, key=lambda value: (not is_number(value), value if is_number(value) else 0, shown(value))
    )


def is_number(value: Any) -> bool:
    """Whether it has a place on a numeric axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def axes_of(sweep: Sweep) -> dict[str, list[Any]]:
    """The keys with more than one value, and these; `seed` is none."""
    points = sweep.points if sweep.listed else [point for point in sweep.points if point.config]
    if sweep.listed:
        keys = list(dict.fromkeys(key for point in points for key in point.overrides))
    else:
        keys = list(dict.fromkeys(key for point in points for key in dotted(point.config)))
    table = [values_of(point, keys) for point in points]
    columns = {key: [row[key] for row in table] for key in keys}
    varied = {key: column for key, column in columns.items() if len({repr(value) for value in column}) > 1}
    if not sweep.listed:
        varied = independent(varied)
    varied.pop("seed", None)
    return {key: sorted_values(column) for key, column in varied.items()}


def independent(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Of keys that move together with another, one: what is derived goes first, then the later in the config."""
    kept: dict[str, list[Any]] = {}
    seen: dict[tuple[int, ...], str] = {}
    for key in sorted(columns, key=lambda key: (key != "seed", key in DERIVED)):
        order = list(dict.fromkeys(repr(value) for value in columns[key]))
        pattern = tuple(order.index(repr(value)) for value in columns[key])
        # a seed that moves with a key is no reason to lose the key
        if seen.get(pattern, "seed") == "seed" and (pattern not in seen or DERIVED.get(key) != "seed"):
            seen[pattern] = key
            kept[key] = columns[key]
    return {key: kept[key] for key in columns if key in kept}


def compare(sweep: Sweep, figure: str | None) -> Comparison:
    """The sweep's settings.

    Args:
        figure: by which the best is chosen; None is the one that the task chooses its checkpoint by.

    Raises:
        UserError: no finished point has the figure.
    """
    finished = [point for point in sweep.points if point.state == FINISHED]
    known = list(dict.fromkeys(name for point in finished for name in point.figures))
    if figure is not None and known and figure not in known:
        raise UserError(f"figure {figure} is none of the sweep's: choose one of {', '.join(known)}")
    chosen = figure or next(
        (name for name in MONITORED if name in known), known[0] if known else MONITORED[0]
    )
    axes = axes_of(sweep)
    settings: dict[tuple[str, ...], Setting] = {}
    for point in sweep.points:
        if not sweep.listed and not point.config:
            continue
        values = values_of(point, list(axes))
        settings.setdefault(
            tuple(repr(value) for value in values.values()), Setting(values, [])
        ).points.append(point)
    places = {axis: [repr(value) for value in values] for axis, values in axes.items()}
    ordered = sorted(
        settings.values(),
        key=lambda setting: [places[axis].index(repr(value)) for axis, value in setting.values.items()],
    )
    sign = -1 if chosen.startswith(LOWER_IS_BETTER) else 1
    scored = [setting for setting in ordered if setting.figure(chosen)]
    best = max(scored, key=lambda setting: sign * spread(setting.figure(chosen))[0], default=None)
    return Comparison(
        sweep,
        axes,
        ordered,
        chosen,
        list(dict.fromkeys([chosen, *(name for name in MAIN if name in known)]))[:6],
        best,
    )


def repeat_command(comparison: Comparison) -> str:
    """The command of the best setting's best seed; empty where nothing has finished."""
    if comparison.best is None:
        return ""
    sign = -1 if comparison.figure.startswith(LOWER_IS_BETTER) else 1
    finished = [
        point
        for point in comparison.best.points
        if math.isfinite(point.figures.get(comparison.figure, math.nan)) and point.state != BROKEN
    ]
    point = max(finished, key=lambda point: sign * point.figures[comparison.figure])
    if point.folder.name in comparison.sweep.said:
        return " ".join(
            ["python train.py", *(shlex.quote(text) for text in comparison.sweep.said[point.folder.name])]
        )
    overrides = dict(point.overrides)
    if not comparison.sweep.listed:
        overrides = (
            constant_overrides(comparison.sweep.folder)
            | comparison.best.values
            | {"seed": point.config.get("seed", 0)}
        )
    order = sorted(overrides, key=lambda key: (key != "experiment", "." in key))
    return " ".join(["python train.py", *(shlex.quote(f"{key}={shown(overrides[key])}") for key in order)])


def constant_overrides(folder: Path) -> dict[str, Any]:
    """What Hydra's own file says of a sweep without sweep.yaml: the overrides that it did not vary, or all with all their values."""
    try:
        overrides = read_yaml(folder / "multirun.yaml")["hydra"]["overrides"]["task"]
    except (UserError, OSError, KeyError, TypeError):
        return {}
    return dict(override.split("=", 1) for override in overrides if "=" in str(override))


def as_csv(comparison: Comparison) -> str:
    """A row a point: where it stands, its state, all of its figures."""
    points = comparison.sweep.points
    keys = [*comparison.axes, "seed"]
    figures = list(dict.fromkeys(name for point in points for name in point.figures))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["point", "state", *keys, "seconds", *figures])
    for point in points:
        values = [shown(value) for value in values_of(point, keys).values()]
        numbers = [
            "" if math.isnan(value) else repr(value)
            for value in (point.seconds, *(point.figures.get(name, math.nan) for name in figures))
        ]
        writer.writerow([point.name, point.state, *values, *numbers])
    return stream.getvalue()
