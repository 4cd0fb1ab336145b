"""A run read back: its config, and its task with the weights that it ended with."""

from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from rpe.run.building import build_task, check_config, task_class
from rpe.run.folder import checkpoint_of, load_weights
from rpe.run.train import without_downloads
from rpe.run_files import read_run
from rpe.structures import UserError
from rpe.task.base import Task


class Trained(NamedTuple):
    """What commands beside the doors read of a run."""

    config: DictConfig
    task: Task


def read_trained(folder: str | None) -> Trained:
    """The run's task in evaluation mode, on the CPU, with its best weights (the last where nothing was validated).

    Raises:
        UserError: no folder is named, no run lies there, it has not trained, or its files are not what train.py wrote.
    """
    if folder is None:
        raise UserError("run is missing: name a run folder that train.py wrote, run=outputs/digits/<time>")
    config = without_downloads(OmegaConf.create(read_run(str(folder))))
    checkpoint = checkpoint_of(str(folder))
    check_config(config)
    task = build_task(config)
    task.on_load_checkpoint(load_weights(task, checkpoint))
    return Trained(config, task.eval())


def task_of(folder: str) -> type[Task]:
    """The class of a run's task, whether it has trained or not.

    Raises:
        UserError: no run lies there.
    """
    return task_class(OmegaConf.create(read_run(folder)))
