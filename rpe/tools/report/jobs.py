"""Read the jobs of a sweep's folder: finished, failed, broken, running or killed, pending.

No content of a folder raises an error. A sweep may be running, so files are missing, appear or are replaced
while they are read.
"""

import csv
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from rpe.errors import UserError
from rpe.older_runs import todays_override, with_todays_keys
from rpe.run_files import Node, read_run, read_yaml

FINISHED, FAILED, BROKEN, RUNNING, PENDING = "finished", "failed", "broken", "running or killed", "pending"

EpochRow = dict[str, float]


@dataclass
class Job:
    """A folder of a sweep.

    Args:
        name: the folder's name.
        folder: the folder, which may not exist yet.
        overrides: values by key, where the sweep records them.
        config: the resolved config; empty where it cannot be read.
        state: one of the five above.
        reason: why it failed or is broken, or when it last wrote.
        faults: the files that cannot be read and why; the job may be finished all the same.
        metrics: of the test, by name.
        seconds: the time that it took.
        epochs: the rows of metrics.csv.
        pictures: files that begin as pictures.
    """

    name: str
    folder: Path
    overrides: Node
    config: Node = field(default_factory=dict)
    state: str = PENDING
    reason: str = ""
    faults: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    epochs: list[EpochRow] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)


@dataclass
class SweepFolder:
    """A sweep's folder: its jobs, the commands that started them, and faults of its own files."""

    folder: Path
    jobs: list[Job]
    commands: list[str]
    faults: list[str]
    recorded: bool
    """True where sweep.yaml records the jobs' overrides; else they are read off the configs."""

    texts: dict[str, list[str]]
    """The text of each job's overrides by its folder's name, where sweep.yaml records it."""


def read_sweep(folder: Path) -> SweepFolder:
    """Read all jobs, in the order of the sweep's record, or sorted by name.

    Raises:
        UserError: the folder does not exist, or holds no run.
    """
    if not folder.is_dir():
        raise UserError(
            f"sweep must be a folder that train.py -m wrote, got {folder}. "
            "Name one such as outputs/digits/sweep/margin."
        )
    faults: list[str] = []
    recorded, commands, texts = read_record(folder, faults)
    names = recorded if recorded is not None else {name: {} for name in run_folders(folder)}
    jobs = [read_job(folder / name, overrides) for name, overrides in names.items()]
    if not jobs:
        raise UserError(
            f"sweep must hold run folders, got {folder}. Name the folder above those of the jobs."
        )
    return SweepFolder(folder, jobs, commands, faults, recorded is not None, texts)


def read_record(
    folder: Path, faults: list[str]
) -> tuple[dict[str, Node] | None, list[str], dict[str, list[str]]]:
    """Read sweep.yaml.

    Returns:
        The values of each job's overrides by folder name; None without a readable record.
        The commands.
        The text of each job's overrides.
    """
    file = folder / "sweep.yaml"
    if not file.is_file():
        return None, [], {}
    try:
        content = with_todays_keys(read_yaml(file))
    except (UserError, OSError) as error:
        faults.append(str(error))
        return None, [], {}
    jobs, commands = content.get("jobs"), content.get("commands") or []
    if not isinstance(jobs, dict) or not all(
        isinstance(overrides, dict | None) for overrides in jobs.values()
    ):
        faults.append(f"{file} lists no jobs: they are read from the folders instead")
        return None, [], {}
    by_name = {
        str(name): {todays_override(str(key)): value for key, value in (overrides or {}).items()}
        for name, overrides in jobs.items()
    }
    texts_by_name = content.get("overrides")
    texts = (
        {str(name): [str(text) for text in lines] for name, lines in texts_by_name.items()}
        if isinstance(texts_by_name, dict)
        else {}
    )
    return by_name, [str(command) for command in commands], texts


def run_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders that hold a run, by their leading number, then by name."""
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


def read_job(folder: Path, overrides: Node) -> Job:
    """Read a job; what cannot be read is added to its faults."""
    job = Job(folder.name, folder, overrides)
    if not folder.is_dir():
        return job
    try:
        if (folder / "config.yaml").is_file():
            job.config = read_run(str(folder))
    except (UserError, OSError) as error:
        job.faults.append(drop_folder(error, folder))
    except (AttributeError, TypeError):
        job.faults.append("resumed.yaml does not fit config.yaml")
    job.epochs = read_epochs(folder / "metrics.csv", job.faults)
    job.pictures = readable_pictures(folder / "pictures", job.faults)
    read_state(job)
    return job


def read_state(job: Job) -> None:
    """Set a job's state: metrics.json means finished, error.txt failed, config.yaml begun."""
    metrics, error = job.folder / "metrics.json", job.folder / "error.txt"
    if metrics.is_file():
        job.state = FINISHED
        try:
            job.metrics, job.seconds = read_metrics(metrics)
        except (UserError, OSError, OverflowError) as fault:
            job.state, job.reason = BROKEN, drop_folder(fault, job.folder)
            job.faults.insert(0, job.reason)
        job.faults += [
            f"metrics.json: {name} is {value}"
            for name, value in job.metrics.items()
            if not math.isfinite(value)
        ]
    elif error.is_file():
        job.state, job.reason = FAILED, last_line(error)
    elif (job.folder / "config.yaml").is_file():
        job.state, job.reason = RUNNING, f"{len(job.epochs)} epochs; last wrote {format_age(job.folder)}"


def read_metrics(file: Path) -> tuple[dict[str, float], float]:
    """Return metrics and seconds of a finished run.

    Raises:
        UserError: the file is broken.
    """
    try:
        text = file.read_text()
        content = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"{file} must be JSON, got {'an empty file' if file.stat().st_size == 0 else error}. Train again."
        ) from error
    metrics = with_todays_keys(content).get("metrics") if isinstance(content, dict) else None
    if not isinstance(metrics, dict) or not metrics:
        raise UserError(f"{file} must hold metrics, got none. Train again.")
    odd = [
        name
        for name, value in metrics.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    ]
    if odd:
        raise UserError(f"{odd[0]} in {file} must be a number, got {metrics[odd[0]]!r}. Train again.")
    run = content.get("run")
    seconds = run.get("seconds") if isinstance(run, dict) else None
    return {name: float(value) for name, value in metrics.items()}, float(seconds) if isinstance(
        seconds, int | float
    ) else math.nan


def read_epochs(file: Path, faults: list[str]) -> list[EpochRow]:
    """Return the rows of metrics.csv up to the first broken one."""
    rows: list[EpochRow] = []
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
    """Return the PNG and JPEG files that begin as such, pictures of single images first."""
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
                faults.append(f"pictures/{file.name} is not a picture")
    except OSError as error:
        faults.append(f"pictures cannot be read ({error.strerror})")
    return sorted(found, key=lambda file: (not file.name.startswith("val-"), file.name))


def last_line(file: Path) -> str:
    """Return the last line of an error file."""
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    return lines[-1] if lines else "without a reason"


def format_age(folder: Path) -> str:
    """Return how long ago a run last wrote; it separates running jobs from killed ones."""
    times = [folder.stat().st_mtime] if folder.exists() else []
    for name in ("config.yaml", "metrics.csv", "checkpoints"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    minutes = max(0.0, time.time() - max(times, default=time.time())) / 60
    return f"{minutes:.0f} min format_age" if minutes < 120 else f"{minutes / 60:.0f} h format_age"


def drop_folder(error: Exception, folder: Path) -> str:
    """Return an error's message without the job's folder, which stands beside it."""
    return str(error).replace(f"{folder}/", "")
