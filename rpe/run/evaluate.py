"""evaluate(config): a run's weights, or anybody's predictions, on a split."""

import math
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import SplitData
from rpe.run.building import build_data, build_task, build_trainer, check_config, check_pair, task_class
from rpe.run.calibration import apply_calibration
from rpe.run.cli import FROM_RUN, plainly
from rpe.run.folder import checkpoint_of, load_weights, provenance, write_figures
from rpe.run.train import without_downloads
from rpe.run_files import pictures_of, read_run, write_whole
from rpe.structures import UserError, check_count
from rpe.task.base import Result, Scoring, Task


@plainly
def evaluate(config: DictConfig) -> dict[str, float]:
    """Score a run's best weights, or anybody's predictions, on a split; returns the figures.

    Raises:
        UserError: neither or both of run and predictions, no data, or anything wrong with the files.
    """
    started = time.monotonic()
    if (config.run is None) == (config.predictions is None):
        raise UserError("evaluate needs one of run=<run folder> and predictions=<results.json, or a folder of boundary or class maps>")
    if config.names is not None and config.predictions is None:
        raise UserError("names restricts predictions=; a run is evaluated on its whole split")
    if config.calibrated and config.predictions is not None:
        raise UserError("calibrated must be false beside predictions=, got true. Predict with calibrated=true instead.")
    if "_target_" not in config.data:
        raise UserError("predictions= needs the data that they are for: add data=coco data.root=<folder>")
    if config.predictions is not None:
        return score_predictions(config, started)
    return score_run(config, started)


def score_predictions(config: DictConfig, started: float) -> dict[str, float]:
    """How predictions are read and scored, their task says."""
    data = build_data(config)
    task = task_class(config)
    check_pair(task, data, config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    names = OmegaConf.to_container(config.names) if OmegaConf.is_list(config.names) else config.names
    if names is not None and not isinstance(names, list):
        raise UserError(f"names {names} is no list: write names=[100007,100039], or null for all")
    if names is not None and (odd := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int)]):
        raise UserError(f"names holds {odd[0]}, which YAML does not take for text: quote it, as in names=['1e5']")
    scoring = Scoring(backend_of(config, task), least_score_of(config), thresholds_of(config))
    result = task.score(data, config.split, Path(config.predictions), folder, names, scoring)
    plain = {
        "data": OmegaConf.to_container(config.data, resolve=True),
        "predictions": str(config.predictions),
        "names": names,
        "backend": config.backend,
        "least_score": config.least_score,
        "thresholds": config.thresholds,
    }
    return write_result(result, folder, data, config.split, provenance(plain, config.split, started))


def backend_of(config: DictConfig, task: type[Task]) -> str:
    """What is to compute the figures.

    Raises:
        UserError: the task knows no such backend.
    """
    if config.backend not in task.backends:
        raise UserError(f"backend {config.backend!r} is unknown: choose {', '.join(task.backends)}")
    return str(config.backend)


def least_score_of(config: DictConfig) -> float:
    """Of the masks of predictions= that become one label map.

    Raises:
        UserError: no finite number.
    """
    score = config.least_score
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
        raise UserError(f"least_score {score} is no number: masks of that score or a better one become one label map, for AP and PQ")
    return float(score)


def thresholds_of(config: DictConfig) -> int | None:
    """At how many thresholds boundary maps are counted; None is the official number.

    Raises:
        UserError: too few for a curve, or no whole number.
    """
    if config.thresholds is not None:
        check_count("thresholds", config.thresholds, 2, "it makes the curve of boundary maps; null is the official 99")
    return config.thresholds


def score_run(config: DictConfig, started: float) -> dict[str, float]:
    """Rebuild a run from its own config, but for the groups that are named here, and test its weights."""
    changed = [override.split("=")[0] for override in HydraConfig.get().overrides.task]
    if "least_score" in changed:
        raise UserError("least_score is for predictions=; of a run, proposal.least_score says it")
    if "thresholds" in changed:
        raise UserError("thresholds is for predictions=; a run's maps are counted at the official 99: score those that it writes, predictions=<maps>")
    if any(key.split(".")[0] == "task" for key in changed):
        raise UserError("task is what the run was trained for: leave it out beside run=")
    run = run_as_asked(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    trainer = build_trainer(run, folder, [], [])
    data: SplitData = build_data(run)
    check_pair(task_class(run), data, run)
    dataset = data.dataset(config.split)
    backend = backend_of(config, task_class(run))
    task = build_task(run)
    task.backend = backend
    checkpoint = chosen_checkpoint(config)
    task.on_load_checkpoint(load_weights(task, checkpoint))
    calibration = apply_calibration(config, run, checkpoint, task)
    task.check_dataset(dataset)
    data.trainer = trainer  # of several processes, each takes its share of the images
    trainer.test(task, dataloaders=data.loader(config.split, training=False), verbose=False)
    if trainer.is_global_zero:
        plain: dict[str, Any] = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
        plain |= calibration
        write_result(task.result, folder, data, config.split, provenance(plain, config.split, started))
    return task.result.figures


def run_as_asked(config: DictConfig) -> DictConfig:
    """The config of the run that is named, with the groups that are asked for instead of its own.

    Raises:
        UserError: no run, or a setting that there is not.
    """
    run = without_downloads(OmegaConf.create(read_run(config.run)))
    for group in FROM_RUN:
        if group in run:
            run[group] = config[group]
    check_config(run)
    return run


def write_result(result: Result, folder: Path, data: SplitData, split: str, run: dict[str, Any]) -> dict[str, float]:
    """Files, pictures and figures, these last, as they say that all is there; returns them."""
    (folder / "metrics.json").unlink(missing_ok=True)  # of an earlier command, whose files are replaced now
    for name, content in result.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
    result.draw(pictures_of(folder), data, split)
    write_figures(folder, result.figures, run, f"{data.name} {split}", result.notes())
    return result.figures


def chosen_checkpoint(config: DictConfig) -> Path:
    """The run's best or last checkpoint, or a file.

    Raises:
        UserError: there is none.
    """
    if config.checkpoint is None:
        raise UserError("checkpoint is null: choose best, last or a .ckpt file")
    name = str(config.checkpoint)
    if name == "best":
        return checkpoint_of(str(config.run))
    return checkpoint_of(str(Path(config.run) / "checkpoints" / "last.ckpt") if name == "last" else name)
