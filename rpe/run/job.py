"""How the job that Hydra runs is called where runs of many jobs stand side by side."""

import functools
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

LONGEST_NAME = 128
"""Characters of a run's name or group; longer ones wandb refuses."""

LONGEST_TAG = 64
"""The same of a tag."""

UNSAID = ("experiment", "logger", "resume", "init", "sweep", "hydra")
"""Overrides that are no part of a name: they are tags, or say where something is written or read."""


def sweep_of(hydra: Any) -> str | None:
    """The last two parts of the sweep's folder: `digits-margin` of `outputs/digits/sweep/margin`; None of a run alone."""
    if hydra.mode != RunMode.MULTIRUN:
        return None
    parts = [part for part in Path(hydra.sweep.dir).parts if part not in ("sweep", "/")]
    return "-".join(parts[-2:])[-LONGEST_NAME:]


def swept_of(hydra: Any) -> list[str]:
    """The overrides that a sweep's points differ in: all but those that the sweep was started with as they stand."""
    file = Path(hydra.sweep.dir) / "multirun.yaml"
    if hydra.mode != RunMode.MULTIRUN or not file.is_file():
        return []
    started_with = said_to(file, file.stat().st_mtime_ns)
    return [text for text in hydra.overrides.task if text not in started_with]


@functools.lru_cache(maxsize=1)
def said_to(multirun: Path, written: int) -> list[str]:
    """The overrides of a sweep's command, of the file that Hydra keeps of it; read once, as its hundreds of lines are asked for ten times a job."""
    return list(yaml.safe_load(multirun.read_text())["hydra"]["overrides"]["task"])


def name_of(hydra: Any) -> str:
    """What a sweep's point is; of a run alone what was said on the command line, and where nothing was, the name of its folder."""
    said = [text for text in hydra.overrides.task if text.split("=")[0].split(".")[0].lstrip("+~") not in UNSAID]
    return (" ".join(swept_of(hydra) or said) or Path(hydra.runtime.output_dir).name)[:LONGEST_NAME]


def tags_of(hydra: Any, data: str | None) -> list[str]:
    """Experiment, task, name of the data, sweep."""
    tags = [hydra.runtime.choices.get("experiment"), hydra.runtime.choices.get("task"), data, sweep_of(hydra)]
    return list(dict.fromkeys(tag[-LONGEST_TAG:] for tag in tags if tag))


def job(what: str, *, _root_: DictConfig) -> Any:
    """`group`, `name` or `tags` of the job; where Hydra runs none, as for `compose`, nothing."""
    if not HydraConfig.initialized():
        return [] if what == "tags" else None
    hydra = HydraConfig.get()
    if what == "tags":  # of a run that goes on, Hydra knows neither the experiment nor the data
        return tags_of(hydra, _root_.data.get("name")) if _root_.get("resume") is None else []
    return {"group": sweep_of, "name": name_of}[what](hydra)
