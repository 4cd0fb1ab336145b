"""Evaluate a run's weights, or the predictions of any method, on a split."""

import math
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import SplitData
from rpe.run.building import build_data, build_task, build_trainer, check_config, check_pair, task_class
from rpe.run.cli import report_errors
from rpe.run.fitted import apply_calibration, apply_tuning
from rpe.run.folder import checkpoint_of, provenance, restore_weights, write_metrics
from rpe.run.overrides import RUN_GROUPS
from rpe.run.train import disable_downloads
from rpe.run_files import pictures_of, read_run, write_whole
from rpe.structures import UserError, check_count
from rpe.task.base import Result, Scoring, Task


@report_errors
def evaluate(config: DictConfig) -> dict[str, float]:
    """Score a run's weights, or a file of predictions, on a split; return the metrics.

    Raises:
        UserError: not exactly one of run and predictions is given, data are missing, or a file is broken.
    """
    started = time.monotonic()
    if (config.run is None) == (config.predictions is None):
        raise UserError(
            "run or predictions must be given, got neither or both. "
            "Add run=<run folder>, or predictions=<results.json, or a folder of boundary or class maps>."
        )
    if config.names is not None and config.predictions is None:
        raise UserError(
            f"names must be null beside run=, got {config.names}. A run is evaluated on its whole split."
        )
    for key in ("calibrated", "tuned"):
        if config[key] and config.predictions is not None:
            raise UserError(
                f"{key} must be false beside predictions=, got true. Predict with {key}=true instead."
            )
    if "_target_" not in config.data:
        raise UserError("data must be given beside predictions=, got none. Add data=coco data.root=<folder>.")
    if config.predictions is not None:
        return score_predictions(config, started)
    return score_run(config, started)


def score_predictions(config: DictConfig, started: float) -> dict[str, float]:
    """Score a predictions file with the task's own metric.

    Raises:
        UserError: `names` is not a list of text or integers.
    """
    data = build_data(config)
    task = task_class(config)
    check_pair(task, data, config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    names = OmegaConf.to_container(config.names) if OmegaConf.is_list(config.names) else config.names
    if names is not None and not isinstance(names, list):
        raise UserError(f"names must be a list or null, got {names}. Write names=[100007,100039].")
    if names is not None and (
        odd := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int)]
    ):
        raise UserError(f"names must be text or integers, got {odd[0]}. Quote it, as in names=['1e5'].")
    scoring = Scoring(
        choose_backend(config, task),
        read_score_threshold(config),
        read_thresholds(config),
        read_thinning(config),
    )
    result = task.score(data, config.split, Path(config.predictions), folder, names, scoring)
    plain = {
        "data": OmegaConf.to_container(config.data, resolve=True),
        "predictions": str(config.predictions),
        "names": names,
        "backend": config.backend,
        "score_threshold": config.score_threshold,
        "thresholds": config.thresholds,
        "thinning": config.thinning,
    }
    return write_result(result, folder, data, config.split, provenance(plain, config.split, started))


def choose_backend(config: DictConfig, task: type[Task]) -> str:
    """Return the library that computes the metrics.

    Raises:
        UserError: the task has no such backend.
    """
    if config.backend not in task.backends:
        raise UserError(f"backend must be one of {', '.join(task.backends)}, got {config.backend}.")
    return str(config.backend)


def read_score_threshold(config: DictConfig) -> float:
    """Return the score from which the masks of predictions= become one label map.

    Raises:
        UserError: it is not a finite number.
    """
    score = config.score_threshold
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
        raise UserError(
            f"score_threshold must be a finite number, got {score}. "
            "Masks of at least that score become one label map, for AP and PQ."
        )
    return float(score)


def read_thresholds(config: DictConfig) -> int | None:
    """Return the number of thresholds at which boundary maps are counted; None is the official number.

    Raises:
        UserError: it is not an integer, or too small for a curve.
    """
    if config.thresholds is not None:
        check_count(
            "thresholds", config.thresholds, 2, "it makes the curve of boundary maps; null is the official 99"
        )
    return config.thresholds


def read_thinning(config: DictConfig) -> bool:
    """Return whether boundary masks are thinned before they are matched.

    Raises:
        UserError: it is not true or false.
    """
    if not isinstance(config.thinning, bool):
        raise UserError(
            f"thinning must be true or false, got {config.thinning}. true is the official protocol, "
            "false measures crispness."
        )
    return config.thinning


def score_run(config: DictConfig, started: float) -> dict[str, float]:
    """Rebuild a run from its own config with the given overrides, and test its weights.

    Raises:
        UserError: an option applies to predictions only.
    """
    changed = [override.split("=")[0] for override in HydraConfig.get().overrides.task]
    if "score_threshold" in changed:
        raise UserError(
            "score_threshold must be given with predictions= only, got run=. Set proposal.score_threshold."
        )
    if "thresholds" in changed:
        raise UserError(
            "thresholds must be given with predictions= only, got run=, counted at the official 99. "
            "Score the maps that it writes: predictions=<maps>."
        )
    if "thinning" in changed:
        raise UserError(
            "thinning must be given with predictions= only, got run=, whose maps are thinned. "
            "Write maps with predict.py run=<run> detection.nms=false, and score them: predictions=<maps>."
        )
    if any(key.split(".")[0] == "task" for key in changed):
        raise UserError("task must be that of the run, got another beside run=. Remove task=.")
    run = override_run(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    trainer = build_trainer(run, folder, [], [])
    data: SplitData = build_data(run)
    check_pair(task_class(run), data, run)
    dataset = data.dataset(config.split)
    backend = choose_backend(config, task_class(run))
    if config.tuned is not False:
        apply_tuning(config, run, choose_checkpoint(config), changed)
    task = build_task(run)
    task.backend = backend
    checkpoint = choose_checkpoint(config)
    task.on_load_checkpoint(restore_weights(task, checkpoint))
    calibration = apply_calibration(config, run, checkpoint, task)
    task.check_dataset(dataset)
    data.trainer = trainer  # each of several processes loads its share of the images
    trainer.test(task, dataloaders=data.loader(config.split, training=False), verbose=False)
    if trainer.is_global_zero:
        plain: dict[str, Any] = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
        plain |= calibration
        write_result(task.result, folder, data, config.split, provenance(plain, config.split, started))
    return task.result.metrics


def override_run(config: DictConfig) -> DictConfig:
    """Return the config of the given run, with the overridden groups instead of its own.

    Raises:
        UserError: the folder holds no run, or a setting is unknown.
    """
    run = disable_downloads(OmegaConf.create(read_run(config.run)))
    for group in RUN_GROUPS:
        if group in run:
            run[group] = config[group]
    check_config(run)
    return run


def write_result(
    result: Result, folder: Path, data: SplitData, split: str, run: dict[str, Any]
) -> dict[str, float]:
    """Write files and pictures, then the metrics, and return these.

    A folder with `metrics.json` is complete, so it is written last.
    """
    (folder / "metrics.json").unlink(missing_ok=True)  # of an earlier command
    for name, content in result.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
    result.draw(pictures_of(folder), data, split)
    write_metrics(folder, result.metrics, run, f"{data.name} {split}", result.notes())
    return result.metrics


def choose_checkpoint(config: DictConfig) -> Path:
    """Return the run's best or last checkpoint, or the given file.

    Raises:
        UserError: the checkpoint does not exist.
    """
    if config.checkpoint is None:
        raise UserError("checkpoint must be best, last or a .ckpt file, got null.")
    name = str(config.checkpoint)
    if name == "best":
        return checkpoint_of(str(config.run))
    return checkpoint_of(str(Path(config.run) / "checkpoints" / "last.ckpt") if name == "last" else name)
