"""What the doors do: `train(config)`, `evaluate(config)`, `predict(config)`, and `enter(main)` around them.

In the order in which a command passes: door (arguments in, one line out), options (values against the constructors), building (config to objects),
folder (what a run leaves) and lock (one process in it), training, evaluation and prediction (findings: what this leaves); sweep (where it lives, what was
asked for) and point (one of its trainings).
"""

from rpe.run.building import build, build_data, build_task
from rpe.run.cli import enter
from rpe.run.evaluate import evaluate
from rpe.run.predict import predict
from rpe.sweep.point import train

__all__ = ["build", "build_data", "build_task", "enter", "evaluate", "predict", "train"]
