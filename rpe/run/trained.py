"""A run read back: its config, and its task with the weights that it ended with."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from rpe.run.building import build_data, build_task, check_config, task_class
from rpe.run.folder import checkpoint_of, load_weights
from rpe.run.train import without_downloads
from rpe.run_files import read_run
from rpe.segment import Segmenter
from rpe.structures import UserError
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Lightning's names of half precisions."""


class Trained(NamedTuple):
    """What commands beside the doors read of a run."""

    config: DictConfig
    task: Task


def load_run(folder: str | None) -> Trained:
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


def load(run: str | Path, device: str | torch.device | None = None) -> Segmenter:
    """Return what finds objects in images, with a run's best weights and its inference settings.

        segmenter = rpe.load("weights/nuclei")
        instances = segmenter(image)  # instances.labels, .scores, .boxes, .masks, .overlay(image), .to_coco(image_id)

    Args:
        run: a run folder that train.py wrote, or one of weights/.
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.

    Raises:
        UserError: no run lies there, it has not trained, or it finds boundaries and no objects.
    """
    config, task = load_run(str(run))
    if not isinstance(task, InstanceTask):
        raise UserError(
            f"run must be one that finds objects, got {run} ({type(task).__name__}). Use predict.py run={run}."
        )
    task.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return replace(task.segmenter, reader=build_data(config).reader, precision=precision_of(config))


def precision_of(config: DictConfig) -> torch.dtype | None:
    """Return the half precision in which a run's network works; None is fp32."""
    return HALVES.get(str(config.trainer.get("precision")))


def task_of(folder: str) -> type[Task]:
    """The class of a run's task, whether it has trained or not.

    Raises:
        UserError: no run lies there.
    """
    return task_class(OmegaConf.create(read_run(folder)))
