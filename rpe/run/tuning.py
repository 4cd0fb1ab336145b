"""Keep the inference settings that were tuned for a run in its folder, and apply them on request."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rpe.run.calibration import fit_settings, read_fitted
from rpe.run_files import write_whole
from rpe.structures import UserError

TUNED_FILE = "tuned.json"

TUNED_KEYS = ("foreground_thresholds", "bandwidths", "min_area", "score_threshold")
"""The settings of `proposal` that `rpe.tools.tune` chooses."""


def write_tuning(
    folder: Path, settings: dict[str, Any], run: DictConfig, checkpoint: Path, about: dict[str, Any]
) -> None:
    """Write the chosen settings into the run folder."""
    content = {"proposal": settings, "fitted_for": fit_settings(run, checkpoint), "about": about}
    write_whole(folder / TUNED_FILE, json.dumps(content, indent=2) + "\n")


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
