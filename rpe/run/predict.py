"""Predict objects or boundaries on a user's images."""

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from jaxtyping import UInt8
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from rpe.data.image import Reader, describe_fault
from rpe.data.module import SplitData
from rpe.overlay import overlay_boundaries
from rpe.progress import ImageProgress, clock
from rpe.run.building import build_data, build_task, check_pair, task_class
from rpe.run.cli import report_errors
from rpe.run.evaluate import choose_checkpoint, override_run
from rpe.run.fitted import apply_calibration, apply_tuning
from rpe.run.folder import provenance, restore_weights
from rpe.run.input_files import count_other_files, image_files
from rpe.run.overrides import RUN_GROUPS
from rpe.run.prediction_writer import PredictionWriter, list_objects
from rpe.run.trained import half_precision
from rpe.segment import Segmenter, Tile, check_step, cut_tiles, network_period, relative_slice
from rpe.structures import UserError, check_count
from rpe.task.boundary import BoundaryTask
from rpe.task.instance import InstanceTask

Advance = Callable[[float], None]
"""A callback that receives the share of an image that is done."""

Answer = tuple[dict[str, np.ndarray], list[dict[str, Any]], list[dict[str, Any]] | None]
"""Maps by the folder that keeps them, and the rows of an image's objects."""

TABLE_SECONDS = 15.0
"""Seconds between two writings of the tables."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors after which no image can be written."""


@report_errors
def predict(config: DictConfig) -> dict[str, float]:
    """Predict, image by image; return the number of images.

    Raises:
        UserError: run or images are missing, or a setting is out of range.
        SystemExit: status 1 if some images cannot be predicted, after all others are done.
    """
    started = time.monotonic()
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("predict must take one run, got -m. Remove -m.")
    if config.run is None or config.images is None:
        raise UserError(
            f"run and images must be given, got run={config.run} images={config.images}. "
            "Add run=<run folder, such as weights/nuclei> and images=<file, folder or pattern>."
        )
    check_count("batch", config.batch, 1, "it is the number of tiles that the network sees at once")
    check_count("overlap", config.overlap, 0, "it is a number of pixels")
    if config.tile not in (None, "auto"):
        check_count(
            "tile", config.tile, 1, "it is the side in pixels; null keeps images whole, auto cuts large ones"
        )
    files = image_files(config.images)
    run = override_run(config)
    checkpoint = choose_checkpoint(config)
    changed = [override.split("=")[0] for override in HydraConfig.get().overrides.task]
    apply_tuning(config, run, checkpoint, changed)
    data, task = load_data_and_task(run, checkpoint, choose_device(config.device))
    if config.tile not in (None, "auto"):
        check_step(config.tile, config.overlap, network_period(task))
    plain: dict[str, Any] = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
    plain |= apply_calibration(config, run, checkpoint, task)
    settings = prediction_settings(config, plain, checkpoint, isinstance(task, InstanceTask))
    about: dict[str, Any] = {
        "run": str(config.run),
        "settings": {key: plain[key] for key in RUN_GROUPS if plain.get(key)},
    }
    precision = half_precision(run)
    answer: Callable[..., Answer]
    if isinstance(task, InstanceTask):
        cut = {"tile": config.tile, "overlap": config.overlap, "batch": config.batch}
        segmenter = replace(task.segmenter, reader=data.reader, precision=precision, **cut)
        about["categories"] = segmenter.categories or {1: "object"}
        answer = partial(predict_objects, segmenter)
    else:
        tiles = partial(cut_tiles, tile=config.tile, overlap=config.overlap, multiple=network_period(task))
        answer = partial(predict_boundaries, task, data.reader, tiles, precision)
    made_by = provenance({**plain, "data": plain["data"]["name"]}, "images", started)
    writer = PredictionWriter(
        Path(HydraConfig.get().runtime.output_dir),
        settings,
        about | {key: made_by[key] for key in ("commit", "config")},
    )
    failed, faults = predict_images(files, writer, data.reader, answer)
    print(
        f"{len(files) - len(failed)} of {len(files)} images "
        f"in {clock(time.monotonic() - started)}: {writer.folder}"
    )
    if isinstance(task, InstanceTask) and writer.images and not writer.objects:
        options = ", ".join(
            f"proposal.{key} {run.proposal[key]}"
            for key in ("foreground_thresholds", "score_threshold", "min_area")
            if key in run.proposal
        )
        print(f"note: no image has an object under {options}")
    print_warnings(faults, count_other_files(config.images))
    if failed:
        print(
            f"error: {len(failed)} of {len(files)} images failed, all others are done",
            file=sys.stderr,
        )
        for file, reason in failed.items():
            print(f"  {file}: {reason}", file=sys.stderr)
        raise SystemExit(1)
    return {"images": float(len(files))}


def print_warnings(faults: dict[str, str], others: str) -> None:
    """Print the images that show hardly anything, and the files beside images that were skipped."""
    if others:
        print(f"skipped, as their suffix is not of an image: {others}")
    if faults:
        print(f"{len(faults)} {'images' if len(faults) > 1 else 'image'} of this call may show nothing:")
        for name, fault in faults.items():
            print(f"  {name}: {fault}")


def load_data_and_task(
    run: DictConfig, checkpoint: Path, device: torch.device
) -> tuple[SplitData, InstanceTask | BoundaryTask]:
    """Build the run's data, of which only the image reader is used, and its task with its weights.

    Raises:
        UserError: the run's task predicts nothing for an image.
    """
    data = build_data(run)
    check_pair(task_class(run), data, run)
    task = build_task(run)
    task.on_load_checkpoint(restore_weights(task, checkpoint))
    if not isinstance(task, InstanceTask | BoundaryTask):
        raise UserError(
            f"run must find objects, classes or boundaries, got {type(task).__name__}. Choose another."
        )
    return data, task.to(device).eval()


def prediction_settings(
    config: DictConfig, run: dict[str, Any], checkpoint: Path, objects: bool
) -> dict[str, Any]:
    """Return the settings that must match before a prediction folder may be continued."""
    settings = {
        key: value
        for key, value in run.items()
        if key not in ("data", "trainer", "logger", "callbacks", "resume", "init_from")
    }
    handling = {key: run["data"].get(key) for key in ("longest_side", "percentile_range")}
    digests = {
        "weights": hashlib.sha256(checkpoint.read_bytes()),
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()),
    }
    cut = {"tile": config.tile, "overlap": config.overlap, "precision": str(run["trainer"].get("precision"))}
    # folders without this key hold pixels as stored, not turned by the EXIF orientation
    return {
        "objects": objects,
        "orientation": "upright",
        **{key: digest.hexdigest()[:16] for key, digest in digests.items()},
        **cut,
        **handling,
    }


def choose_device(name: str) -> torch.device:
    """Return the device of the network.

    Raises:
        UserError: the device is unknown, or not available here.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise UserError(f"device must be cpu, cuda or auto, got {name}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device must be available, got cuda on a machine without. Choose cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def predict_objects(segmenter: Segmenter, image: UInt8[Tensor, "3 _ _"], advance: Advance) -> Answer:
    """Return label map, overlay, rows of an image's objects, and rows of all its ranked masks."""
    found = segmenter.find(image, advance)
    maps = {"labels": found.labels.astype(np.uint16), "overlays": found.overlay(to_array(image))}
    ids = list(found.categories) or [1]
    proposals = None if found.proposals is None else found.proposals.to_coco(0, ids)
    return maps, list_objects(found), proposals


@torch.no_grad()
def predict_boundaries(
    task: BoundaryTask,
    reader: Reader,
    cut: Callable[..., list[Tile]],
    precision: torch.dtype | None,
    image: UInt8[Tensor, "3 _ _"],
    advance: Advance,
) -> Answer:
    """Return an image's boundary map, put together from the cores of its tiles, and its overlay."""
    seen = reader.for_network(image)
    strength = np.zeros(seen.shape[1:], dtype=np.uint8)
    tiles = cut((seen.shape[1], seen.shape[2]))
    for number, tile in enumerate(tiles, start=1):
        part = (seen[:, tile.rows, tile.columns].float() / 255).to(task.device)
        with torch.autocast(task.device.type, precision or torch.bfloat16, enabled=precision is not None):
            whole = task.detection(task.model.detect, part)
        strength[tile.core_rows, tile.core_columns] = whole[
            relative_slice(tile.rows, tile.core_rows), relative_slice(tile.columns, tile.core_columns)
        ]
        advance(number / len(tiles))
    return {"boundaries": strength, "overlays": overlay_boundaries(to_array(image), strength)}, [], None


def to_array(image: UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image as an array with the channels last."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def predict_images(
    files: list[Path], writer: PredictionWriter, reader: Reader, answer: Callable[..., Answer]
) -> tuple[dict[Path, str], dict[str, str]]:
    """Predict the images that are not done, and write the tables.

    The tables are written from time to time, and at the end even after an error.

    Returns:
        The files that cannot be read or written, each with its reason.
        The names of images that may show nothing, each with its fault.
    """
    failed: dict[Path, str] = {}
    faults: dict[str, str] = {}
    names = writer.name_images(files)
    todo = {name: file for name, file in names.items() if not writer.is_done(name, file)}
    if len(todo) < len(names):
        print(f"{len(names) - len(todo)} of {len(names)} images are done already", flush=True)
    written = time.monotonic()
    try:
        with ImageProgress(len(todo)) as progress:
            for number, (name, file) in enumerate(todo.items()):
                try:
                    image = reader.read(file)
                    if (fault := describe_fault(image)) is not None:
                        faults[name] = fault
                    maps, rows, proposals = answer(
                        image, lambda share, number=number, name=name: progress.show(number + share, name)
                    )
                    writer.write(name, file, maps, rows, (image.shape[1], image.shape[2]), proposals)
                except UserError as error:
                    failed[file] = str(error)
                except OSError as error:
                    if error.errno in DISK_ERRORS and os.access(file, os.R_OK):
                        raise
                    failed[file] = f"cannot be read, or its output not be written ({error.strerror or error})"
                progress.show(number + 1.0, name)
                if time.monotonic() - written > TABLE_SECONDS:
                    writer.write_tables()
                    written = time.monotonic()
    finally:
        writer.write_tables()
    return failed, faults
