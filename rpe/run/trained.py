"""Load a trained run: its config, and its task with its weights."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import InstanceData, SplitDataset, collate
from rpe.run.building import build_data, build_task, check_config, check_pair, task_class
from rpe.run.folder import checkpoint_of, restore_weights
from rpe.run.train import disable_downloads
from rpe.run_files import read_run
from rpe.segment import Segmenter
from rpe.structures import Geometry, InstanceBatch, NetworkOutput, UserError
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

HALF_PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Lightning's names of the half precisions."""


class LoadedRun(NamedTuple):
    """A run's config and its task."""

    config: DictConfig
    task: Task


def load_run(folder: str | None) -> LoadedRun:
    """Load a run's task on the CPU, in evaluation mode, with its best weights.

    The weights are the last ones where no epoch was validated.

    Raises:
        UserError: no folder is named, it holds no run, the run has not trained, or its files are broken.
    """
    if folder is None:
        raise UserError(
            "run must be a run folder, got none. Name one that train.py wrote: run=outputs/digits/<time>"
        )
    config = disable_downloads(OmegaConf.create(read_run(str(folder))))
    checkpoint = checkpoint_of(str(folder))
    check_config(config)
    task = build_task(config)
    task.on_load_checkpoint(restore_weights(task, checkpoint))
    return LoadedRun(config, task.eval())


def load_grouping_run(folder: str | None) -> tuple[DictConfig, InstanceTask, InstanceData]:
    """Load a run that groups pixels, with its data, to fit something to its masks.

    Raises:
        UserError: see `load_run`, or the run finds no objects or does not group pixels.
    """
    if folder is not None and not issubclass(run_task_class(str(folder)), InstanceTask):
        raise UserError(f"run must be one that finds objects, got {folder}. Its results are no scored masks.")
    config, task = load_run(folder)
    data = build_data(config)
    check_pair(type(task), data, config)
    assert isinstance(task, InstanceTask) and isinstance(data, InstanceData)
    if not task.uses_grouping:
        raise UserError(
            f"run must be one that groups pixels, got {folder}. Its masks are components of the class map."
        )
    return config, task, data


def iterate_outputs(
    task: InstanceTask, dataset: SplitDataset, images: int
) -> Iterator[tuple[InstanceBatch, NetworkOutput, Geometry]]:
    """Yield evenly spaced images of a split, as batches of one, with the network's output and the sizes."""
    count = min(images, len(dataset))
    for place in torch.linspace(0, len(dataset) - 1, count).round().long().tolist():
        batch = collate([dataset[place]])
        yield batch, *task.segmenter.embed_one(batch)


def load(run: str | Path, device: str | torch.device | None = None) -> Segmenter:
    """Return a segmenter that finds objects in images, with a run's best weights and its inference settings.

        segmenter = rpe.load("weights/nuclei")
        instances = segmenter(image)

    `image` is a file, a Pillow image, or an array [height, width] or [height, width, channel] of 8 or 16
    bits, or floating point in [0, 1]. `instances` is an `Instances`: `labels` int32 [height, width], `scores`
    [object] in [0, 1], `boxes` [object, 4] as left, top, width and height in pixels, `areas` in pixels,
    `classes`, `masks` as COCO's run lengths, `overlay(image)` and `to_coco(image_id)`.

    Args:
        run: a run folder that train.py wrote, or one of weights/.
        device: such as "cpu" or "cuda:1"; None is a GPU where there is one.

    Raises:
        UserError: the folder holds no run, the run has not trained, or it finds boundaries instead of
            objects.
    """
    config, task = load_run(str(run))
    if not isinstance(task, InstanceTask):
        raise UserError(
            f"run must be one that finds objects, got {run} ({type(task).__name__}). "
            f"Use predict.py run={run}."
        )
    task.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return replace(task.segmenter, reader=build_data(config).reader, precision=half_precision(config))


def half_precision(config: DictConfig) -> torch.dtype | None:
    """Return the half precision of a run's network; None is fp32."""
    return HALF_PRECISIONS.get(str(config.trainer.get("precision")))


def run_task_class(folder: str) -> type[Task]:
    """Return the class of a run's task; the run need not have trained.

    Raises:
        UserError: the folder holds no run.
    """
    return task_class(OmegaConf.create(read_run(folder)))
