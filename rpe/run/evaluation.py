"""evaluate(config): a run's weights, or anybody's predictions, on a split."""

import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import SplitData
from rpe.run.building import build_data, build_task, build_trainer, check_config, check_pair, task_class
from rpe.run.door import FROM_RUN, plainly
from rpe.run.folder import checkpoint_of, load_weights, pictures_of, provenance, read_run, write_figures, write_whole
from rpe.run.training import without_downloads
from rpe.structures import InputError


@plainly
def evaluate(config: DictConfig) -> dict[str, float]:
    """Score a run's best weights, or anybody's predictions, on a split; returns the figures.

    Raises:
        InputError: neither or both of run and predictions, no data, or anything wrong with the files.
    """
    started = time.monotonic()
    if (config.run is None) == (config.predictions is None):
        raise InputError("evaluate needs one of run=<run folder> and predictions=<results.json>")
    if "_target_" not in config.data:
        raise InputError("predictions= needs the data that they are for: add data=coco data.root=<folder>")
    if config.predictions is not None:
        return score_predictions(config, started)
    return score_run(config, started)


def score_predictions(config: DictConfig, started: float) -> dict[str, float]:
    """How predictions are read and scored, their task says."""
    data = build_data(config)
    task = task_class(config)
    check_pair(task, data, config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    figures = task.score(data, config.split, Path(config.predictions), pictures_of(folder))
    plain = {"data": OmegaConf.to_container(config.data, resolve=True), "predictions": str(config.predictions)}
    write_figures(folder, figures, provenance(plain, config.split, started), f"{data.name} {config.split}")
    return figures


def score_run(config: DictConfig, started: float) -> dict[str, float]:
    """Rebuild a run from its own config, but for the groups that are named here, and test its weights."""
    if any(override.split("=")[0].split(".")[0] == "task" for override in HydraConfig.get().overrides.task):
        raise InputError("task is what the run was trained for: leave it out beside run=")
    run = without_downloads(OmegaConf.create(read_run(config.run)))
    for group in FROM_RUN:
        if group in run:
            run[group] = config[group]
    check_config(run)
    folder = Path(HydraConfig.get().runtime.output_dir)
    trainer = build_trainer(run, folder, [], [])
    data: SplitData = build_data(run)
    check_pair(task_class(run), data, run)
    data.dataset(config.split)
    task = build_task(run)
    load_weights(task, chosen_checkpoint(config))
    data.trainer = trainer  # of several processes, each takes its share of the images
    trainer.test(task, dataloaders=data.loader(config.split, training=False), verbose=False)
    if trainer.is_global_zero:
        for name, content in task.files().items():
            write_whole(folder / name, content)
        task.draw(pictures_of(folder), data, config.split)
        plain: dict[str, Any] = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
        write_figures(folder, task.figures, provenance(plain, config.split, started), f"{data.name} {config.split}")
    return task.figures


def chosen_checkpoint(config: DictConfig) -> Path:
    """The run's best or last checkpoint, or a file.

    Raises:
        InputError: there is none.
    """
    if config.checkpoint is None:
        raise InputError("checkpoint is null: choose best, last or a .ckpt file")
    name = str(config.checkpoint)
    return checkpoint_of(str(Path(config.run) / "checkpoints" / f"{name}.ckpt") if name in ("best", "last") else name)
