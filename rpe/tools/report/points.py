"""The points of a sweep's folder, whatever state each is in: finished, failed, broken, running or killed, pending.

Nothing here raises for what a folder holds: a sweep may be running, so files are missing, appear or are exchanged while they are read.
"""

import csv
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpe.errors import UserError
from rpe.run_files import Node, read_run, read_yaml

FINISHED, FAILED, BROKEN, RUNNING, PENDING = "finished", "failed", "broken", "running or killed", "pending"

Row = dict[str, float]


@dataclass
class Point:
    """One folder of a sweep.

    Args:
        name: of the folder.
        folder: may not be there yet.
        overrides: by key, as far as the sweep tells them.
        config: the resolved config; empty where it cannot be read.
        state: one of the five above.
        reason: why it failed, is broken, or when it last wrote.
        faults: all of its files that cannot be read, with what is wrong, also where the point counts all the same.
        figures: of the test, by name.
        seconds: that it took.
        epochs: the rows of metrics.csv.
        pictures: files that are pictures by their first bytes.
    """

    name: str
    folder: Path
    overrides: Node
    config: Node = field(default_factory=dict)
    state: str = PENDING
    reason: str = ""
    faults: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    epochs: list[Row] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)


@dataclass
class Sweep:
    """A sweep's folder: its points, the commands that added them, and what of its own files cannot be read."""

    folder: Path
    points: list[Point]
    commands: list[str]
    faults: list[str]
    listed: bool
    """Whether sweep.yaml tells each point's overrides; else they are read off the configs' differences."""

    said: dict[str, list[str]]
    """Of each point the overrides as they were said, by its folder's name, where sweep.yaml tells."""


def read_sweep(folder: Path) -> Sweep:
    """All points, in the order in which the sweep lists them, or by name.

    Raises:
        UserError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(
            f"sweep {folder} is no folder: name one that train.py -m wrote, such as outputs/digits/sweep/margin"
        )
    faults: list[str] = []
    listed, commands, said = listed_points(folder, faults)
    names = listed if listed is not None else {name: {} for name in run_folders(folder)}
    points = [read_point(folder / name, overrides) for name, overrides in names.items()]
    if not points:
        raise UserError(
            f"sweep {folder} holds no run folders: name the folder that train.py -m wrote, one above the points' own"
        )
    return Sweep(folder, points, commands, faults, listed is not None, said)


def listed_points(
    folder: Path, faults: list[str]
) -> tuple[dict[str, Node] | None, list[str], dict[str, list[str]]]:
    """What sweep.yaml says: values of the overrides by folder name (None where there is none that can be read), the commands, and the overrides as they were said."""
    file = folder / "sweep.yaml"
    if not file.is_file():
        return None, [], {}
    try:
        content = read_yaml(file)
    except (UserError, OSError) as error:
        faults.append(str(error))
        return None, [], {}
    points, commands = content.get("points"), content.get("commands") or []
    if not isinstance(points, dict) or not all(
        isinstance(overrides, dict | None) for overrides in points.values()
    ):
        faults.append(f"{file} lists no points: they are read off the folders instead")
        return None, [], {}
    by_name = {
        str(name): {str(key): value for key, value in (overrides or {}).items()}
        for name, overrides in points.items()
    }
    overrides = content.get("overrides")
    said = (
        {str(name): [str(text) for text in texts] for name, texts in overrides.items()}
        if isinstance(overrides, dict)
        else {}
    )
    return by_name, [str(command) for command in commands], said


def run_folders(folder: Path) -> list[str]:
    """Names of the sub-folders that a run has begun to write, in the order of the numbers that they start with, then of their names."""
    found = [
        child.name
        for child in folder.iterdir()
        if any((child / file).is_file() for file in ("config.yaml", "metrics.json", "error.txt"))
    ]
    return sorted(
        found,
        key=lambda name: (
            not name.split("_")[0].isdigit(),
            int(name.split("_")[0]) if name.split("_")[0].isdigit() else 0,
            name,
        ),
    )


def read_point(folder: Path, overrides: Node) -> Point:
    """One point; whatever cannot be read is among its faults."""
    point = Point(folder.name, folder, overrides)
    if not folder.is_dir():
        return point
    try:
        if (folder / "config.yaml").is_file():
            point.config = read_run(str(folder))
    except (UserError, OSError) as error:
        point.faults.append(without_folder(error, folder))
    except (AttributeError, TypeError):
        point.faults.append("resumed.yaml does not fit config.yaml")
    point.epochs = read_epochs(folder / "metrics.csv", point.faults)
    point.pictures = readable_pictures(folder / "pictures", point.faults)
    read_state(point)
    return point


def read_state(point: Point) -> None:
    """metrics.json says that a point is finished, error.txt that it failed, config.yaml that it began."""
    metrics, error = point.folder / "metrics.json", point.folder / "error.txt"
    if metrics.is_file():
        point.state = FINISHED
        try:
            point.figures, point.seconds = read_metrics(metrics)
        except (UserError, OSError, OverflowError) as fault:
            point.state, point.reason = BROKEN, without_folder(fault, point.folder)
            point.faults.insert(0, point.reason)
        point.faults += [
            f"metrics.json: {name} is {value}"
            for name, value in point.figures.items()
            if not math.isfinite(value)
        ]
    elif error.is_file():
        point.state, point.reason = FAILED, last_line(error)
    elif (point.folder / "config.yaml").is_file():
        point.state, point.reason = RUNNING, f"{len(point.epochs)} epochs; last wrote {ago(point.folder)}"


def read_metrics(file: Path) -> tuple[dict[str, float], float]:
    """Figures and seconds of a finished run.

    Raises:
        UserError: what is wrong with the file.
    """
    try:
        text = file.read_text()
        content = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"{file} {'is empty' if file.stat().st_size == 0 else f'is not JSON ({error})'}"
        ) from error
    figures = content.get("figures") if isinstance(content, dict) else None
    if not isinstance(figures, dict) or not figures:
        raise UserError(f"{file} holds no figures")
    odd = [
        name
        for name, value in figures.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    ]
    if odd:
        raise UserError(f"{file}: {odd[0]} is {figures[odd[0]]!r}, no number")
    run = content.get("run")
    seconds = run.get("seconds") if isinstance(run, dict) else None
    return {name: float(value) for name, value in figures.items()}, float(seconds) if isinstance(
        seconds, int | float
    ) else math.nan


def read_epochs(file: Path, faults: list[str]) -> list[Row]:
    """The rows of metrics.csv that can be read; the first that cannot ends them."""
    rows: list[Row] = []
    try:
        if not file.is_file():
            return rows
        table = list(csv.reader(file.read_text().splitlines()))
        if not table or "epoch" not in table[0]:
            faults.append(f"{file.name} has no column epoch")
            return rows
        for number, values in enumerate(table[1:], start=1):
            if len(values) != len(table[0]):
                faults.append(f"{file.name}: row {number} has {len(values)} of {len(table[0])} columns")
                return rows
            rows.append({name: float(value) for name, value in zip(table[0], values, strict=True) if value})
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        faults.append(f"{file.name} cannot be read after row {len(rows)} ({error})")
    return rows


SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def readable_pictures(folder: Path, faults: list[str]) -> list[Path]:
    """PNG and JPEG files that begin as such, those of single images before the curves of all."""
    found = []
    try:
        files = (
            sorted(file for file in folder.iterdir() if file.suffix in (".png", ".jpg"))
            if folder.is_dir()
            else []
        )
        for file in files:
            with file.open("rb") as stream:
                start = stream.read(8)
            if start.startswith(SIGNATURES):
                found.append(file)
            else:
                faults.append(f"pictures/{file.name} is no picture")
    except OSError as error:
        faults.append(f"pictures cannot be read ({error.strerror})")
    return sorted(found, key=lambda file: (not file.name.startswith("val-"), file.name))


def last_line(file: Path) -> str:
    """The reason of a failure."""
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    return lines[-1] if lines else "for no reason told"


def ago(folder: Path) -> str:
    """How long ago a run last wrote, so that a person can tell a running one from a killed one."""
    times = [folder.stat().st_mtime] if folder.exists() else []
    for name in ("config.yaml", "metrics.csv", "checkpoints"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    minutes = max(0.0, time.time() - max(times, default=time.time())) / 60
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"


def without_folder(error: Exception, folder: Path) -> str:
    """What is wrong with one of a point's files, whose folder stands beside it anyway."""
    return str(error).replace(f"{folder}/", "")


def dotted(config: Node, prefix: str = "") -> dict[str, Any]:
    """A config's leaves by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= (
            dotted(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else {f"{prefix}{key}": value}
        )
    return flat
