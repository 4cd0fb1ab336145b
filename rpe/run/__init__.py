"""What the doors do: `train(config)`, `evaluate(config)`, `predict(config)`, and `enter(main)` around them.

In the order in which a command passes: door (arguments in, one line out), options (values against the constructors), building (config to objects),
folder (what a run leaves) and lock (one process in it), training, evaluation and prediction (findings: what this leaves); sweep (where it lives, what was
asked for) and point (one of its trainings).
"""

from rpe.run.building import build, build_data, build_task
from rpe.run.door import enter
from rpe.run.evaluation import evaluate
from rpe.run.point import train
from rpe.run.prediction import predict

__all__ = ["build", "build_data", "build_task", "enter", "evaluate", "predict", "train"]
