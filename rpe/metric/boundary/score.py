"""Score boundary maps of a split, in memory or in a folder: metrics, tables, and a journal to resume from."""

import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from rpe.data.bsds import read_drawings
from rpe.data.module import resolve_names
from rpe.errors import warn
from rpe.metric.boundary.annotators import Annotators
from rpe.metric.boundary.curve import (
    BoundaryCounts,
    boundary_metrics,
    count_boundary_masks,
    count_boundary_pixels,
    counts_from_table,
    even_thresholds,
    f_measure,
    interpolate_best,
)
from rpe.metric.boundary.reading import (
    FULL_SCALE,
    Prediction,
    find_doubtful_maps,
    find_predictions,
    read_prediction,
)
from rpe.progress import ImageProgress
from rpe.run_files import rows_to_csv, write_whole
from rpe.structures import UserError

VERSION = 1
"""Version of the counting; journals of another version are ignored."""

CountTable = list[list[int]]


@dataclass
class Scored:
    """The counts of each image at each threshold, and the metrics and tables computed from them."""

    names: list[str]
    counts: BoundaryCounts

    @property
    def thresholds(self) -> Float[np.ndarray, " threshold"]:
        """Return the thresholds of the counts."""
        return even_thresholds(self.counts.truth.shape[1])

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics of `boundary_metrics`, and `images`, their number."""
        return boundary_metrics(self.counts, self.thresholds) | {"images": float(len(self.names))}

    def curve(self) -> tuple[Float[np.ndarray, " threshold"], Float[np.ndarray, " threshold"]]:
        """Return recall and precision of all images together."""
        pooled = counts_from_table(self.counts.table().sum(0))
        return pooled.recall(), pooled.precision()

    def tables(self) -> dict[str, str | bytes]:
        """Return `thresholds.csv` (pooled) and `images.csv` (each at its best F), with six digits."""
        recall, precision = self.curve()
        pooled = np.stack([self.thresholds, recall, precision, f_measure(recall, precision)], 1)
        best = [
            interpolate_best(self.thresholds, one.recall(), one.precision())
            for one in map(counts_from_table, self.counts.table())
        ]
        columns = ["threshold", "recall", "precision", "F"]
        return {
            "thresholds.csv": rows_to_csv([columns, *(six_digits(row) for row in pooled)]),
            "images.csv": rows_to_csv(
                [
                    ["name", *columns],
                    *([name, *six_digits(row)] for name, row in zip(self.names, best, strict=True)),
                ]
            ),
        }


def six_digits(row: Iterable[float]) -> list[str]:
    """Format numbers for a table."""
    return [f"{value:.6f}" for value in row]


def score_maps(
    maps: dict[str, UInt8[np.ndarray, "height width"]],
    truths: dict[str, Path],
    thresholds: int,
    progress: bool,
    workers: int | None = None,
) -> Scored:
    """Score maps in memory, in steps of 1/255, as `score_folder` would score them as PNG files.

    Args:
        maps, truths: by image name; the truth is the annotation file.
        thresholds: see `score_folder`.
        progress: show the progress.
        workers: processes; None means one per core.
    """
    names = list(maps)
    inputs = (
        (
            name,
            Prediction(Path(name), maps[name] / FULL_SCALE["L"], []),
            [one.boundaries for one in read_drawings(truths[name])],
        )
        for name in names
    )
    done = {}
    with ImageProgress(len(names) if progress else None) as bar:
        for name, table in count_images(inputs, len(names), thresholds, workers or count_cores()):
            done[name] = table
            bar.advance()
    return Scored(names, counts_from_table(np.array([done[name] for name in names], dtype=np.int64)))


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def score_folder(
    predictions: Path,
    truths: dict[str, Path],
    journal: Path,
    thresholds: int,
    names: Sequence[str | int] | None = None,
    workers: int | None = None,
    thinning: bool = True,
) -> Scored:
    """Score a folder of boundary maps.

    Args:
        predictions: folder with `<name>.png`, `.npy` or `.mat` for each image, see `read_prediction`.
        truths: the annotation file of each image name.
        journal: folder for the counts of finished images. A later call with the same files reads them.
        thresholds: their number, 99 in the official protocol. Segmentations count as one threshold each.
        names: of the images to score, see `resolve_names`; None means all.
        workers: processes; None means one per core.
        thinning: see `count_boundary_masks`.

    Raises:
        UserError: a file is wrong; raised before any image is counted.
    """
    chosen = resolve_names(names, sorted(truths))
    files = find_predictions(predictions, chosen)
    journal.mkdir(parents=True, exist_ok=True)
    keys = {name: hash_inputs(files[name], truths[name], thresholds, thinning) for name in chosen}
    done = {
        name: table
        for name in chosen
        if (table := read_journal(journal / f"{name}.json", keys[name])) is not None
    }
    waiting = [name for name in chosen if name not in done]
    # all files are checked first: an error must not come after hours of counting
    for line in find_doubtful_maps(
        (read_inputs(files[name], truths[name])[0] for name in chosen), float(even_thresholds(thresholds)[0])
    ):
        warn(line)
    if done and waiting:
        print(f"{len(done)} of {len(chosen)} images are read from the journal", flush=True)
    inputs = ((name, *read_inputs(files[name], truths[name])) for name in waiting)
    with ImageProgress(len(waiting)) as bar:
        for name, table in count_images(inputs, len(waiting), thresholds, workers or count_cores(), thinning):
            done[name] = table
            write_whole(journal / f"{name}.json", json.dumps({"key": keys[name], "table": table}))
            bar.advance()
    if len({len(table) for table in done.values()}) > 1:
        raise UserError(
            f"predictions in {predictions} must hold as many segmentations for each image, "
            "got different numbers, or maps beside them. Write all files in the same way."
        )
    return Scored(chosen, counts_from_table(np.array([done[name] for name in chosen], dtype=np.int64)))


def hash_inputs(prediction: Path, truth: Path, thresholds: int, thinning: bool) -> str:
    """Return a key of everything that an image's counts depend on."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (prediction, truth)]
    return " ".join([str(VERSION), str(thresholds), *([] if thinning else ["thick"]), *digests])


def read_journal(file: Path, key: str) -> CountTable | None:
    """Return the counts of a journal file; None if it is missing or was made from other files."""
    try:
        entry = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return entry["table"] if entry.get("key") == key else None


def read_inputs(file: Path, truth: Path) -> tuple[Prediction, list[np.ndarray]]:
    """Read a prediction and the boundaries of its annotators; raise `UserError` that names a wrong file."""
    boundaries = [one.boundaries for one in read_drawings(truth)]
    return read_prediction(file, (boundaries[0].shape[0], boundaries[0].shape[1])), boundaries


ImageInput = tuple[str, Prediction, list[np.ndarray]]


def count_boundaries(
    image_input: ImageInput, thresholds: int, thinning: bool = True
) -> tuple[str, CountTable]:
    """Return the name and the counts of one image."""
    name, prediction, boundaries = image_input
    annotators = Annotators(boundaries)
    if prediction.map is None:
        counts = count_boundary_masks(prediction.masks, annotators, thinning)
    else:
        counts = count_boundary_pixels(prediction.map, annotators, even_thresholds(thresholds), thinning)
    return name, counts.table().tolist()


def count_images(
    inputs: Iterator[ImageInput], total: int, thresholds: int, workers: int, thinning: bool = True
) -> Iterator[tuple[str, CountTable]]:
    """Yield name and counts of each image as it is done, from several processes of one thread each."""
    if workers == 1 or total < 2:
        for image_input in inputs:
            yield count_boundaries(image_input, thresholds, thinning)
        return
    # fork avoids a second import; it is safe, as the children use no lock of another thread and no GPU
    method = "fork" if sys.platform == "linux" else "spawn"
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), start_worker, (os.getpid(),))
    running: set[Future[tuple[str, CountTable]]] = set()
    try:
        while True:
            # only a few are loaded ahead, as maps in memory are large
            running |= {
                pool.submit(count_boundaries, image_input, thresholds, thinning)
                for image_input in itertools.islice(inputs, 2 * workers - len(running))
            }
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_worker(parent: int) -> None:
    """Set up a worker: the parent handles Ctrl-C, and the worker exits if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, args=(parent,), daemon=True).start()


def exit_with_parent(parent: int) -> None:
    """End this process once its parent has changed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
