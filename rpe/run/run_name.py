"""How the job that Hydra runs is called where runs of many jobs stand side by side."""

import functools
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rpe.run.sweep import RECORD, key_of
from rpe.run_files import read_yaml

LONGEST_NAME = 128
"""Characters of a run's name or group; longer ones wandb refuses."""

LONGEST_TAG = 64
"""The same of a tag."""

UNSAID = ("experiment", "logger", "resume", "init_from", "sweep", "hydra")
"""Overrides that are no part of a name: they are tags, or say where something is written or read."""


def record_of(hydra: Any) -> Path | None:
    """The record of the sweep that the job is a point of; None of a run alone. A point of several ranks is a command of its own, so Hydra's mode does not tell."""
    folder = Path(hydra.runtime.output_dir)
    record = folder.parent / RECORD
    return (
        record
        if record.is_file() and folder.name in points_of_record(record, record.stat().st_mtime_ns)
        else None
    )


def sweep_of(hydra: Any) -> str | None:
    """The last two parts of the sweep's folder: `digits-margin` of `outputs/digits/sweep/margin`; None of a run alone."""
    record = record_of(hydra)
    if record is None:
        return None
    parts = [part for part in record.parent.absolute().parts if part not in ("sweep", "/")]
    return "-".join(parts[-2:])[-LONGEST_NAME:]


def swept_of(hydra: Any) -> list[str]:
    """The overrides that a sweep's points differ in."""
    record = record_of(hydra)
    if record is None:
        return []
    points = points_of_record(record, record.stat().st_mtime_ns)
    mine = points[Path(hydra.runtime.output_dir).name]
    return [
        f"{key}={value}"
        for key, value in mine.items()
        if any(point.get(key) != value for point in points.values())
    ]


@functools.lru_cache(maxsize=1)
def points_of_record(record: Path, written: int) -> dict[str, dict[str, Any]]:
    """The points of a sweep's record by their folder; read once, as it is asked for ten times a job."""
    points: dict[str, dict[str, Any]] = read_yaml(record).get("points", {})
    return points


def name_of(hydra: Any) -> str:
    """What a sweep's point is; of a run alone what was said on the command line, and where nothing was, the name of its folder."""
    said = [text for text in hydra.overrides.task if key_of(text).split(".")[0] not in UNSAID]
    return (" ".join(swept_of(hydra) or said) or Path(hydra.runtime.output_dir).name)[:LONGEST_NAME]


def tags_of(hydra: Any, data: str | None) -> list[str]:
    """Experiment, task, name of the data, sweep."""
    tags = [hydra.runtime.choices.get("experiment"), hydra.runtime.choices.get("task"), data, sweep_of(hydra)]
    return list(dict.fromkeys(tag[-LONGEST_TAG:] for tag in tags if tag))


def job(what: str, *, _root_: DictConfig) -> Any:
    """`group`, `name` or `tags` of the job; where Hydra runs none, as for `compose`, nothing."""
    # between two jobs of a sweep there is no folder yet
    if not HydraConfig.initialized() or OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return [] if what == "tags" else None
    hydra = HydraConfig.get()
    if what == "tags":  # of a run that goes on, Hydra knows neither the experiment nor the data
        return tags_of(hydra, _root_.data.get("name")) if _root_.get("resume") is None else []
    return {"group": sweep_of, "name": name_of}[what](hydra)
