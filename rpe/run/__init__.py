"""Run the commands train.py, evaluate.py and predict.py.

A command passes these modules in turn: `cli` and `overrides` (prepare the arguments), `validation` (check the
values), `building` (build objects from the config), `folder` and `lock` (the run folder), then `train`,
`evaluate` or `predict`. `messages` turns errors into one line. `sweep_record` names the folders of a sweep;
`rpe.sweep` trains a job of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpe.run.building import build, build_data, build_task
    from rpe.run.cli import hydra_command, run_command

__all__ = ["build", "build_data", "build_task", "hydra_command", "run_command"]

LAZY_MODULES = {
    "build": "rpe.run.building",
    "build_data": "rpe.run.building",
    "build_task": "rpe.run.building",
    "hydra_command": "rpe.run.cli",
    "run_command": "rpe.run.cli",
}


def __getattr__(name: str) -> Any:
    """Import a function on first use, so that `--help` starts without torch."""
    if name not in LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY_MODULES[name]), name)
