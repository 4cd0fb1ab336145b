"""Keep what tools fit to a run's validation split in its folder, and apply it on request."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from omegaconf import DictConfig, OmegaConf

from rpe.run_files import write_whole
from rpe.segment.ranker import CalibratedRanker
from rpe.structures import UserError
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

CALIBRATION_FILE = "calibration.json"

TUNED_FILE = "tuned.json"

TUNED_KEYS = ("foreground_thresholds", "bandwidths", "min_area", "score_threshold")
"""The settings of `proposal` that `rpe.tools.tune` chooses."""

Content = TypeVar("Content")


def fit_settings(run: DictConfig, checkpoint: Path) -> dict[str, Any]:
    """Return the weights' hash and the ranker's settings: a fit holds for these alone."""
    ranker = OmegaConf.to_container(run.ranker, resolve=True)
    return {"weights": hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16], "ranker": ranker}


def write_fitted(
    file: Path, content: dict[str, Any], run: DictConfig, checkpoint: Path, about: dict[str, Any]
) -> None:
    """Write what was fitted, beside the weights and settings that it holds for."""
    whole = content | {"fitted_for": fit_settings(run, checkpoint), "about": about}
    write_whole(file, json.dumps(whole, indent=2) + "\n")


def read_fitted(
    config: DictConfig,
    run: DictConfig,
    checkpoint: Path,
    key: str,
    file: Path,
    tool: str,
    read: Callable[[dict[str, Any]], Content],
) -> Content | None:
    """Return what a tool has fitted to a run's validation split; None where `config` does not request it.

    Args:
        config: of the command.
        run: the run's config with the command's overrides.
        checkpoint: the weights in use.
        key: the option of `config` that requests it.
        file: what the tool wrote.
        tool: its name in `rpe.tools`.
        read: returns the content, and raises ValueError, TypeError or KeyError where it is broken.

    Raises:
        UserError: the file is missing or broken, or was fitted for other weights or another ranker.
    """
    requested = config[key]
    if not isinstance(requested, bool):
        raise UserError(f"{key} must be true or false, got {requested}.")
    if not requested:
        return None
    command = f"python -m rpe.tools.{tool} run={config.run}"
    if not file.is_file():
        raise UserError(f"{key} must be false without {file}, got true. Run {command} first.")
    try:
        content = json.loads(file.read_text())
        fitted = content["fitted_for"]
        found = read(content)
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} must be as rpe.tools.{tool} wrote it, got {type(error).__name__} ({error}). "
            "Write it again."
        ) from error
    now = fit_settings(run, checkpoint)
    if different := [name for name in now if not isinstance(fitted, dict) or fitted.get(name) != now[name]]:
        raise UserError(
            f"{key} must be false with other {' and '.join(different)} than {file} was fitted for, "
            f"got true. Leave it out, or run {command} again."
        )
    return found


def read_knots(content: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return a calibration's scores and IoUs.

    Raises:
        ValueError, TypeError, KeyError: they are missing, differ in length, or are no rising curve.
    """
    scores, ious = [[float(value) for value in content[key]] for key in ("scores", "ious")]
    if len(scores) != len(ious) or len(scores) < 2 or not np.isfinite([scores, ious]).all():
        raise ValueError("scores and ious differ in length, or are not finite")
    if np.diff(scores).min() <= 0 or np.diff(ious).min() < 0:
        raise ValueError("scores or ious fall")
    return scores, ious


def apply_calibration(config: DictConfig, run: DictConfig, checkpoint: Path, task: Task) -> dict[str, Any]:
    """Calibrate the task's scores where `config.calibrated` is true.

    Returns:
        The setting for the provenance: `{"calibration": {scores, ious}}`, or {} where the scores stay raw.

    Raises:
        UserError: see `read_fitted`, or the task has no scores.
    """
    if config.calibrated is True and (not isinstance(task, InstanceTask) or not task.uses_grouping):
        raise UserError("calibrated must be false for a run without grouping, got true. Leave it out.")
    file = Path(str(config.run)) / CALIBRATION_FILE
    knots = read_fitted(config, run, checkpoint, "calibrated", file, "calibrate", read_knots)
    if knots is None:
        return {}
    assert isinstance(task, InstanceTask)
    task.proposal.ranker = CalibratedRanker(task.proposal.ranker, *knots)
    return {"calibration": {"scores": knots[0], "ious": knots[1]}}


def read_settings(content: dict[str, Any]) -> dict[str, Any]:
    """Return the tuned settings.

    Raises:
        ValueError, TypeError, KeyError: some are missing; their values are checked where they are used.
    """
    return {key: content["proposal"][key] for key in TUNED_KEYS}


def apply_tuning(config: DictConfig, run: DictConfig, checkpoint: Path, overridden: list[str]) -> None:
    """Set the tuned settings in the run's config where `config.tuned` is true.

    Args:
        config: of the command.
        run: the run's config with the command's overrides.
        checkpoint: the weights in use.
        overridden: keys given on the command line, which keep their values.

    Raises:
        UserError: see `read_fitted`, or the scores are calibrated.
    """
    if config.tuned is True and config.calibrated is True:
        raise UserError(
            "tuned must be false beside calibrated=true, got true. It was tuned for scores as they are."
        )
    file = Path(str(config.run)) / TUNED_FILE
    settings = read_fitted(config, run, checkpoint, "tuned", file, "tune", read_settings)
    for key, value in (settings or {}).items():
        if f"proposal.{key}" not in overridden:
            run.proposal[key] = value
