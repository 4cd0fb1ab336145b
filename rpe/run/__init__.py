"""What train.py, evaluate.py and predict.py do.

In the order in which a command passes: cli (arguments in, one line out), validation (values against the constructors), building (config to objects),
folder (what a run leaves) and lock (one process in it), train, evaluate and predict (findings: what this leaves); sweep (where a sweep lives, what was
asked for). `rpe.sweep` trains one job of it.
"""

from rpe.run.building import build, build_data, build_task
from rpe.run.cli import enter, hydra_command

__all__ = ["build", "build_data", "build_task", "enter", "hydra_command"]
