"""predict(config): a run's answer to anybody's images."""

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from jaxtyping import UInt8
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from rpe.callback.progress import clock
from rpe.data.module import SplitData, distinct_names
from rpe.picture.overlay import drawn_boundaries, overlay
from rpe.run.building import build_data, build_task, check_pair, task_class
from rpe.run.calibration import apply_calibration
from rpe.run.cli import FROM_RUN, plainly
from rpe.run.counter import Counter
from rpe.run.evaluate import chosen_checkpoint, run_as_asked
from rpe.run.findings import Findings, rows_of
from rpe.run.folder import load_weights, provenance
from rpe.run.input_files import image_files
from rpe.segment import Piece, Tile, check_step, enlarged, stitched, tiles_of, within
from rpe.structures import UserError, check_count
from rpe.task.base import Task
from rpe.task.boundary import BoundaryTask
from rpe.task.classes import BACKGROUND_NAME
from rpe.task.instance import InstanceTask
from rpe.task.tile import boundaries_of, categories_of, multiple_of, pieces_of

HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What Lightning calls them; anything else is fp32."""

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
        raise UserError("predict needs run=<run folder, such as weights/nuclei> and images=<file, folder or pattern>")
    check_count("batch", config.batch, 1, "it is how many tiles the network sees at once")
    check_count("overlap", config.overlap, 0, "it is a number of pixels")
    if config.tile is not None:
        check_count("tile", config.tile, 1, "it is a side in pixels, or null for whole images")
    files = image_files(config.images)
    run = run_as_asked(config)
    checkpoint = chosen_checkpoint(config)
    data, task = loaded(run, checkpoint, device_of(config.device))
    if config.tile is not None:
        check_step(config.tile, config.overlap, multiple_of(task))
    plain: dict[str, Any] = OmegaConf.to_container(run, resolve=True)  # type: ignore[assignment]
    plain |= apply_calibration(config, run, checkpoint, task)
    made = made_of(config, plain, checkpoint, isinstance(task, InstanceTask))
    about: dict[str, Any] = {"run": str(config.run), "settings": {key: plain[key] for key in FROM_RUN if plain.get(key)}}
    if isinstance(task, InstanceTask):
        about["categories"] = categories_of(task) or {1: "object"}
    made_by = provenance({**plain, "data": plain["data"]["name"]}, "images", started)
    findings = Findings(Path(HydraConfig.get().runtime.output_dir), made, about | {key: made_by[key] for key in ("commit", "config")})
    refused = go_through(files, findings, Predictor(task, data, config, HALVES.get(str(run.trainer.get("precision")))))
    print(f"{len(files) - len(refused)} of {len(files)} images in {clock(time.monotonic() - started)}: {findings.folder}")
    if isinstance(task, InstanceTask) and findings.images and not findings.objects:
        settings = ", ".join(f"proposal.{key} {run.proposal[key]}" for key in ("foreground", "least_score", "minimum_area") if key in run.proposal)
        print(f"note: no object in any image: {settings} leave none")
    if refused:
        print(f"error: {len(refused)} of {len(files)} images could not be done, all others are done", file=sys.stderr)
        for file, reason in refused.items():
            print(f"  {file}: {reason}", file=sys.stderr)
        raise SystemExit(1)
    return {"images": float(len(files))}


def loaded(run: DictConfig, checkpoint: Path, device: torch.device) -> tuple[SplitData, Task]:
    """The run's data, of which only the handling of images is used, and its task with its weights."""
    data = build_data(run)
    check_pair(task_class(run), data, run)
    task = build_task(run)
    task.on_load_checkpoint(load_weights(task, checkpoint))
    if not isinstance(task, InstanceTask | BoundaryTask):
        raise UserError(f"{type(task).__name__} has no prediction: it is made for tasks that find objects, classes or boundaries")
    return data, task.to(device).eval()


def made_of(config: DictConfig, run: dict[str, Any], checkpoint: Path, objects: bool) -> dict[str, Any]:
    """What decides an answer, so that one folder holds answers of one kind."""
    settings = {key: value for key, value in run.items() if key not in ("data", "trainer", "logger", "callback", "resume", "init")}
    handling = {key: run["data"].get(key) for key in ("longest_side", "stretch")}
    digests = {"weights": hashlib.sha256(checkpoint.read_bytes()), "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode())}
    cut = {"tile": config.tile, "overlap": config.overlap, "precision": str(run["trainer"].get("precision"))}
    return {"objects": objects, **{key: digest.hexdigest()[:16] for key, digest in digests.items()}, **cut, **handling}


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


class Predictor:
    """From an image file to what is kept of it."""

    def __init__(self, task: Task, data: SplitData, config: DictConfig, precision: torch.dtype | None) -> None:
        self.task, self.data, self.precision = task, data, precision
        self.tile, self.overlap, self.batch = config.tile, config.overlap, config.batch
        self.multiple = multiple_of(task)

    def __call__(self, findings: Findings, name: str, file: Path, advance: Callable[[float], None]) -> None:
        """Predict on a file and keep the answer; `advance` is told the share that is done.

        Raises:
            UserError: it is no image, or nothing can be made of it.
        """
        image = self.data.read_file(file)
        seen = self.data.for_network(image)
        tiles = tiles_of((seen.shape[1], seen.shape[2]), self.tile, self.overlap, self.multiple)
        size = (image.shape[1], image.shape[2])
        shown = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        if isinstance(self.task, BoundaryTask):
            strength = self.boundaries(self.task, seen, tiles, advance)
            findings.write(name, file, {"boundaries": strength, "overlays": drawn_boundaries(shown, strength)}, [], size)
            return
        assert isinstance(self.task, InstanceTask)
        pieces = self.pieces(self.task, seen, tiles, size, advance)
        found = stitched(tiles if len(tiles) > 1 else tiles_of(size, None, 0, 1), pieces, size if len(tiles) == 1 else (seen.shape[1], seen.shape[2]))
        found.labels = found.labels if found.labels.shape == size else enlarged(found.labels, size)
        rows = rows_of(found, distinct_names(categories_of(self.task), BACKGROUND_NAME))
        maps = {"labels": found.labels.astype(np.uint16), "overlays": overlay(shown, found.labels)}
        findings.write(name, file, maps, rows, size)

    def pieces(
        self, task: InstanceTask, seen: UInt8[Tensor, "3 _ _"], tiles: list[Tile], size: tuple[int, int], advance: Callable[[float], None]
    ) -> list[Piece]:
        """The objects of each tile; tiles of one size go through the network together."""
        pieces: dict[int, Piece] = {}
        order = sorted(range(len(tiles)), key=lambda number: (tiles[number].size, number))
        for shape, numbers in groupby(order, key=lambda number: tiles[number].size):
            same = list(numbers)
            for start in range(0, len(same), self.batch):
                some = same[start : start + self.batch]
                images = torch.stack([self.data.as_floats(seen[:, tiles[number].rows, tiles[number].columns]) for number in some])
                pieces |= zip(some, pieces_of(task, images, size if len(tiles) == 1 else shape, self.precision), strict=True)
                advance(len(pieces) / len(tiles))
        return [pieces[number] for number in range(len(tiles))]

    def boundaries(
        self, task: BoundaryTask, seen: UInt8[Tensor, "3 _ _"], tiles: list[Tile], advance: Callable[[float], None]
    ) -> UInt8[np.ndarray, "_ _"]:
        """The boundary maps of the tiles' cores side by side."""
        strength = np.zeros((seen.shape[1], seen.shape[2]), dtype=np.uint8)
        for number, tile in enumerate(tiles, start=1):
            whole = boundaries_of(task, self.data.as_floats(seen[:, tile.rows, tile.columns]), self.precision)
            core = within(tile.rows, tile.core_rows), within(tile.columns, tile.core_columns)
            strength[tile.core_rows, tile.core_columns] = whole[core]
            advance(number / len(tiles))
        return strength


def go_through(files: list[Path], findings: Findings, predictor: Predictor) -> dict[Path, str]:
    """All images that are not done; returns the files that cannot be read, or whose answer cannot be written, each with its reason. The tables are
    written on the way and at the end, however that comes."""
    refused: dict[Path, str] = {}
    names = findings.name_all(files)
    todo = {name: file for name, file in names.items() if not findings.is_done(name, file)}
    if len(todo) < len(names):
        print(f"{len(names) - len(todo)} of {len(names)} images are done already", flush=True)
    counter = Counter(len(todo))
    written = time.monotonic()
    try:
        for number, (name, file) in enumerate(todo.items()):
            try:
                predictor(findings, name, file, lambda share, number=number, name=name: counter.show(number + share, name))
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
    return refused
