"""Name a run of Hydra's for wandb and MLflow, where the runs of many jobs stand side by side."""

import functools
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rpe.older_runs import with_todays_keys
from rpe.run.sweep_record import RECORD_FILE, override_key
from rpe.run_files import read_yaml

WANDB_NAME_LENGTH = 128
"""Characters of a run's name or group; wandb refuses longer ones."""

WANDB_TAG_LENGTH = 64
"""Characters of a tag; wandb refuses longer ones."""

UNNAMED_KEYS = ("experiment", "logger", "resume", "init_from", "sweep", "hydra")
"""Overrides that are not part of a name: tags carry them, or they name a place to read or write."""


def find_record(hydra: Any) -> Path | None:
    """Return the record of the sweep that the job belongs to; None for a single run.

    Hydra's mode does not tell: a job of several ranks is a command of its own.
    """
    folder = Path(hydra.runtime.output_dir)
    record = folder.parent / RECORD_FILE
    return (
        record if record.is_file() and folder.name in read_jobs(record, record.stat().st_mtime_ns) else None
    )


def sweep_title(hydra: Any) -> str | None:
    """Return the last two parts of the sweep's folder: `digits-margin` of `outputs/digits/sweep/margin`."""
    record = find_record(hydra)
    if record is None:
        return None
    parts = [part for part in record.parent.absolute().parts if part not in ("sweep", "/")]
    return "-".join(parts[-2:])[-WANDB_NAME_LENGTH:]


def swept_values(hydra: Any) -> list[str]:
    """Return the job's values of the overrides in which the sweep's jobs differ; none for a single run."""
    record = find_record(hydra)
    if record is None:
        return []
    jobs = read_jobs(record, record.stat().st_mtime_ns)
    mine = jobs[Path(hydra.runtime.output_dir).name]
    return [
        f"{key}={value}" for key, value in mine.items() if any(job.get(key) != value for job in jobs.values())
    ]


@functools.lru_cache(maxsize=1)
def read_jobs(record: Path, written: int) -> dict[str, dict[str, Any]]:
    """Read the jobs of a sweep's record by their folder, once, as a job needs them about ten times."""
    jobs: dict[str, dict[str, Any]] = with_todays_keys(read_yaml(record)).get("jobs", {})
    return jobs


def run_name(hydra: Any) -> str:
    """Return a job's swept values, else a run's overrides, else the name of its folder."""
    overrides = [
        text for text in hydra.overrides.task if override_key(text).split(".")[0] not in UNNAMED_KEYS
    ]
    return (" ".join(swept_values(hydra) or overrides) or Path(hydra.runtime.output_dir).name)[
        :WANDB_NAME_LENGTH
    ]


def list_tags(hydra: Any, data: str | None) -> list[str]:
    """Return experiment, task, name of the data, and sweep, as far as they are known."""
    tags = [
        hydra.runtime.choices.get("experiment"),
        hydra.runtime.choices.get("task"),
        data,
        sweep_title(hydra),
    ]
    return list(dict.fromkeys(tag[-WANDB_TAG_LENGTH:] for tag in tags if tag))


def resolve_run_name(part: str, *, _root_: DictConfig) -> Any:
    """Return `group`, `name` or `tags` of the job that Hydra runs.

    Nothing where Hydra runs no job, as under `compose`.
    """
    # between two jobs of a sweep the folder is not known
    if not HydraConfig.initialized() or OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return [] if part == "tags" else None
    hydra = HydraConfig.get()
    if part == "tags":  # of a resumed run, Hydra knows neither the experiment nor the data
        return list_tags(hydra, _root_.data.get("name")) if _root_.get("resume") is None else []
    return {"group": sweep_title, "name": run_name}[part](hydra)
