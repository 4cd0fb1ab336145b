"""Run the commands train.py, evaluate.py and predict.py.

A command passes these modules in turn: `cli` and `overrides` (prepare the arguments), `validation` (check the
values),
`building` (build objects from the config), `folder` and `lock` (the run folder), then `train`, `evaluate` or
`predict`. `messages` turns errors into one line. `sweep` names the folders of a sweep; `rpe.sweep` trains a
job of it.
"""

from rpe.run.building import build, build_data, build_task
from rpe.run.cli import hydra_command, run_command

__all__ = ["build", "build_data", "build_task", "hydra_command", "run_command"]
