"""Keep the calibration of a run's scores in its folder, and apply it on request."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf

from rpe.run_files import write_whole
from rpe.segment.calibration import CalibratedRanker
from rpe.structures import UserError
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

FILE = "calibration.json"


def fit_settings(run: DictConfig, checkpoint: Path) -> dict[str, Any]:
    """Return the weights' hash and the ranker's settings: a calibration holds for these alone."""
    ranker = OmegaConf.to_container(run.ranker, resolve=True)
    return {"weights": hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16], "ranker": ranker}


def write_calibration(
    folder: Path, knots: Float[np.ndarray, "2 knot"], fitted: dict[str, Any], about: dict[str, Any]
) -> None:
    """Write a calibration's knots into the run folder."""
    scores, ious = knots.tolist()
    content = {"scores": scores, "ious": ious, "fitted_for": fitted, "about": about}
    write_whole(folder / FILE, json.dumps(content, indent=2) + "\n")


def apply_calibration(config: DictConfig, run: DictConfig, checkpoint: Path, task: Task) -> dict[str, Any]:
    """Calibrate the task's scores where `config.calibrated` is true.

    Returns:
        The setting for the provenance: `{"calibration": {scores, ious}}`, or {} where the scores stay raw.

    Raises:
        UserError: the run folder holds no calibration, or one of other weights or of another ranker, or the
            task has no scores.
    """
    if not isinstance(config.calibrated, bool):
        raise UserError(f"calibrated must be true or false, got {config.calibrated}.")
    if not config.calibrated:
        return {}
    if not isinstance(task, InstanceTask) or not task.groups:
        raise UserError("calibrated must be false for a run without grouping, got true. Leave it out.")
    file = Path(config.run) / FILE
    if not file.is_file():
        raise UserError(
            f"calibrated must be false without {file}, got true. "
            f"Run python -m rpe.tools.calibrate run={config.run} first."
        )
    try:
        content = json.loads(file.read_text())
        scores, ious = [[float(value) for value in content[key]] for key in ("scores", "ious")]
        fitted = content["fitted_for"]
        if len(scores) != len(ious) or len(scores) < 2 or not np.isfinite([scores, ious]).all():
            raise ValueError("scores and ious differ in length, or are not finite")
        if np.diff(scores).min() <= 0 or np.diff(ious).min() < 0:
            raise ValueError("scores or ious fall")
    except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} must be as rpe.tools.calibrate wrote it, got {type(error).__name__} ({error}). "
            "Write it again."
        ) from error
    now = fit_settings(run, checkpoint)
    if different := [key for key in now if not isinstance(fitted, dict) or fitted.get(key) != now[key]]:
        raise UserError(
            f"calibrated must be false with other {' and '.join(different)} than {file} was fitted for, "
            "got true. "
            f"Leave it out, or run python -m rpe.tools.calibrate run={config.run} again."
        )
    task.proposal.ranker = CalibratedRanker(task.proposal.ranker, scores, ious)
    return {"calibration": {"scores": scores, "ious": ious}}
