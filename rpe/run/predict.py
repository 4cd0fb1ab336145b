"""predict(config): a run's answer to anybody's images."""

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

from rpe.callbacks.progress import clock
from rpe.data.image import Reader, describe_fault
from rpe.data.module import SplitData
from rpe.overlay import drawn_boundaries
from rpe.run.building import build_data, build_task, check_pair, task_class
from rpe.run.calibration import apply_calibration
from rpe.run.cli import FROM_RUN, plainly
from rpe.run.counter import Counter
from rpe.run.evaluate import chosen_checkpoint, run_as_asked
from rpe.run.folder import load_weights, provenance
from rpe.run.input_files import image_files, left_out
from rpe.run.prediction_writer import PredictionWriter, rows_of
from rpe.run.trained import precision_of
from rpe.segment import Segmenter, Tile, check_step, multiple_of, tiles_of, within
from rpe.structures import UserError, check_count
from rpe.task.boundary import BoundaryTask
from rpe.task.instance import InstanceTask

Advance = Callable[[float], None]
"""Told the share of an image that is done."""

Answer = tuple[dict[str, np.ndarray], list[dict[str, Any]]]
"""Maps by the folder that keeps them, and the rows of an image's objects."""

EVERY_SECONDS = 15.0
"""Between two writings of the tables."""

OF_ALL_IMAGES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Why nothing more can be written, whatever the image."""


@plainly
def predict(config: DictConfig) -> dict[str, float]:
    """Predict, image by image; returns how many images were read and how many were not.

    Raises:
        UserError: no run, no image, or a setting out of range.
        SystemExit: status 1, after all images that can be read are done, if some cannot.
    """
    started = time.monotonic()
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("predict takes one run at a time: leave -m out")
    if config.run is None or config.images is None:
        raise UserError(
            "predict needs run=<run folder, such as weights/nuclei> and images=<file, folder or pattern>"
        )
    check_count("batch", config.batch, 1, "it is how many tiles the network sees at once")
    check_count("overlap", config.overlap, 0, "it is a number of pixels")
    if config.tile not in (None, "auto"):
        check_count("tile", config.tile, 1, "it is a side in pixels, null for whole images, or auto")
    files = image_files(config.images)
    run = run_as_asked(config)
    checkpoint = chosen_checkpoint(config)
    data, task = loaded(run, checkpoint, device_of(config.device))
    if config.tile not in (None, "auto"):
        check_step(config.tile, config.overlap, multiple_of(task))
    plain: dict[str, Any] = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
    plain |= apply_calibration(config, run, checkpoint, task)
    made = made_of(config, plain, checkpoint, isinstance(task, InstanceTask))
    about: dict[str, Any] = {
        "run": str(config.run),
        "settings": {key: plain[key] for key in FROM_RUN if plain.get(key)},
    }
    precision = precision_of(run)
    answer: Callable[..., Answer]
    if isinstance(task, InstanceTask):
        cut = {"tile": config.tile, "overlap": config.overlap, "batch": config.batch}
        segmenter = replace(task.segmenter, reader=data.reader, precision=precision, **cut)
        about["categories"] = segmenter.categories or {1: "object"}
        answer = partial(objects_of, segmenter)
    else:
        tiles = partial(tiles_of, tile=config.tile, overlap=config.overlap, multiple=multiple_of(task))
        answer = partial(boundaries_of, task, data.reader, tiles, precision)
    made_by = provenance({**plain, "data": plain["data"]["name"]}, "images", started)
    findings = PredictionWriter(
        Path(HydraConfig.get().runtime.output_dir),
        made,
        about | {key: made_by[key] for key in ("commit", "config")},
    )
    refused, faults = go_through(files, findings, data.reader, answer)
    print(
        f"{len(files) - len(refused)} of {len(files)} images in {clock(time.monotonic() - started)}: {findings.folder}"
    )
    if isinstance(task, InstanceTask) and findings.images and not findings.objects:
        settings = ", ".join(
            f"proposal.{key} {run.proposal[key]}"
            for key in ("foreground_thresholds", "score_threshold", "min_area")
            if key in run.proposal
        )
        print(f"note: no object in any image: {settings} leave none")
    print_doubts(faults, left_out(config.images))
    if refused:
        print(
            f"error: {len(refused)} of {len(files)} images could not be done, all others are done",
            file=sys.stderr,
        )
        for file, reason in refused.items():
            print(f"  {file}: {reason}", file=sys.stderr)
        raise SystemExit(1)
    return {"images": float(len(files))}


def print_doubts(faults: dict[str, str], others: str) -> None:
    """Print which images hardly show anything, and which files beside images were left out."""
    if others:
        print(f"left out, as their suffix is no image's: {others}")
    if faults:
        print(f"{len(faults)} {'images' if len(faults) > 1 else 'image'} of this call may show nothing:")
        for name, fault in faults.items():
            print(f"  {name}: {fault}")


def loaded(
    run: DictConfig, checkpoint: Path, device: torch.device
) -> tuple[SplitData, InstanceTask | BoundaryTask]:
    """The run's data, of which only the handling of images is used, and its task with its weights."""
    data = build_data(run)
    check_pair(task_class(run), data, run)
    task = build_task(run)
    task.on_load_checkpoint(load_weights(task, checkpoint))
    if not isinstance(task, InstanceTask | BoundaryTask):
        raise UserError(
            f"{type(task).__name__} has no prediction: it is made for tasks that find objects, classes or boundaries"
        )
    return data, task.to(device).eval()


def made_of(config: DictConfig, run: dict[str, Any], checkpoint: Path, objects: bool) -> dict[str, Any]:
    """What decides an answer, so that one folder holds answers of one kind."""
    settings = {
        key: value
        for key, value in run.items()
        if key not in ("data", "trainer", "logger", "callback", "resume", "init_from")
    }
    handling = {key: run["data"].get(key) for key in ("longest_side", "percentile_range")}
    digests = {
        "weights": hashlib.sha256(checkpoint.read_bytes()),
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()),
    }
    cut = {"tile": config.tile, "overlap": config.overlap, "precision": str(run["trainer"].get("precision"))}
    # answers of before this key lie as stored, whatever the EXIF orientation
    return {
        "objects": objects,
        "orientation": "upright",
        **{key: digest.hexdigest()[:16] for key, digest in digests.items()},
        **cut,
        **handling,
    }


def device_of(name: str) -> torch.device:
    """Where the network runs.

    Raises:
        UserError: no such device here.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise UserError(f"device {name!r} is unknown: choose cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda is not here: choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def objects_of(segmenter: Segmenter, image: UInt8[Tensor, "3 _ _"], advance: Advance) -> Answer:
    """Return label map, overlay and rows of an image's objects."""
    found = segmenter.find(image, advance)
    return {"labels": found.labels.astype(np.uint16), "overlays": found.overlay(shown(image))}, rows_of(found)


@torch.no_grad()
def boundaries_of(
    task: BoundaryTask,
    reader: Reader,
    cut: Callable[..., list[Tile]],
    precision: torch.dtype | None,
    image: UInt8[Tensor, "3 _ _"],
    advance: Advance,
) -> Answer:
    """Return an image's boundary map, those of its tiles' cores side by side, and its overlay."""
    seen = reader.for_network(image)
    strength = np.zeros(seen.shape[1:], dtype=np.uint8)
    tiles = cut((seen.shape[1], seen.shape[2]))
    for number, tile in enumerate(tiles, start=1):
        part = (seen[:, tile.rows, tile.columns].float() / 255).to(task.device)
        with torch.autocast(task.device.type, precision or torch.bfloat16, enabled=precision is not None):
            whole = task.detection(task.detector.detect, part)
        strength[tile.core_rows, tile.core_columns] = whole[
            within(tile.rows, tile.core_rows), within(tile.columns, tile.core_columns)
        ]
        advance(number / len(tiles))
    return {"boundaries": strength, "overlays": drawn_boundaries(shown(image), strength)}, []


def shown(image: UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image as pictures have it."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def go_through(
    files: list[Path], findings: PredictionWriter, reader: Reader, answer: Callable[..., Answer]
) -> tuple[dict[Path, str], dict[str, str]]:
    """Predict on all images that are not done. The tables are written on the way and at the end, however that comes.

    Returns:
        the files that cannot be read, or whose answer cannot be written, each with its reason; and the names of images that may show nothing,
        each with what is wrong with it.
    """
    refused: dict[Path, str] = {}
    faults: dict[str, str] = {}
    names = findings.name_all(files)
    todo = {name: file for name, file in names.items() if not findings.is_done(name, file)}
    if len(todo) < len(names):
        print(f"{len(names) - len(todo)} of {len(names)} images are done already", flush=True)
    counter = Counter(len(todo))
    written = time.monotonic()
    try:
        for number, (name, file) in enumerate(todo.items()):
            try:
                image = reader.read(file)
                if (fault := describe_fault(image)) is not None:
                    faults[name] = fault
                maps, rows = answer(
                    image, lambda share, number=number, name=name: counter.show(number + share, name)
                )
                findings.write(name, file, maps, rows, (image.shape[1], image.shape[2]))
            except UserError as error:
                refused[file] = str(error)
            except OSError as error:
                if error.errno in OF_ALL_IMAGES and os.access(file, os.R_OK):
                    raise
                refused[file] = f"cannot be read, or its answer written ({error.strerror or error})"
            counter.show(number + 1.0, name)
            if time.monotonic() - written > EVERY_SECONDS:
                findings.write_tables()
                written = time.monotonic()
    finally:
        counter.stop()
        findings.write_tables()
    return refused, faults
