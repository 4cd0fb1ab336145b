"""A folder of boundary maps against a split: figures, tables, and a journal from which a stopped run goes on."""

import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rpe.data.bsds import read_annotations
from rpe.metric.boundary.annotators import Annotators
from rpe.metric.boundary.curve import Counts, best_between, count_masks, count_pixels, f_measure, figures, of_table, thresholds_of
from rpe.metric.boundary.reading import Prediction, as_names, find_predictions, read_prediction
from rpe.structures import InputError

VERSION = 1
"""Of the counting: a journal of another one is not taken up."""

PLAIN_LINES = 10.0
"""Seconds between two lines where there is no terminal."""

Table = list[list[int]]


def score(
    predictions: Path, truths: dict[str, Path], folder: Path, thresholds: int, names: Sequence[str | int] | None, workers: int | None
) -> dict[str, float]:
    """Score anybody's boundary maps.

    Args:
        predictions: holds `<name>.png`, `.npy` or `.mat` for each image, see `read_prediction`.
        truths: the annotation file of each image's name.
        folder: is filled with `metrics.json`, `thresholds.csv`, `images.csv`, and the `journal`: finished images, which a later call with
            the same files does not count again.
        thresholds: their number, 99 in the official protocol. Segmentations count one threshold each.
        names: of the images to score, see `as_names`; None is all.
        workers: processes; None is one for each core.

    Returns:
        As `figures`, and `images`, how many there were.

    Raises:
        InputError: anything wrong with the files, before any is counted.
    """
    started = time.monotonic()
    chosen = as_names(names, sorted(truths))
    files = find_predictions(predictions, chosen)
    journal = folder / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    keys = {name: key_of(files[name], truths[name], thresholds) for name in chosen}
    done = {name: table for name in chosen if (table := recall_table(journal / f"{name}.json", keys[name])) is not None}
    waiting = [name for name in chosen if name not in done]
    for name in waiting:
        check(files[name], truths[name])
    if done and waiting:
        print(f"{len(done)} of {len(chosen)} images were counted before", flush=True)
    jobs = ((name, *load(files[name], truths[name])) for name in waiting)
    for name, table in counted(jobs, len(waiting), thresholds, workers or len(os.sched_getaffinity(0))):
        done[name] = table
        write_whole(journal / f"{name}.json", json.dumps({"key": keys[name], "table": table}))
    if len({len(table) for table in done.values()}) > 1:
        raise InputError(f"predictions in {predictions} hold different numbers of segmentations (or maps beside them): each image needs as many")
    counts = of_table(np.array([done[name] for name in chosen], dtype=np.int64))
    return write(folder, chosen, counts, {"predictions": str(predictions), "thresholds": thresholds, "seconds": round(time.monotonic() - started, 1)})


def key_of(prediction: Path, truth: Path, thresholds: int) -> str:
    """What an image's counts depend on."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (prediction, truth)]
    return " ".join([str(VERSION), str(thresholds), *digests])


def recall_table(file: Path, key: str) -> Table | None:
    """The counts of the journal, if they are of the same files."""
    try:
        entry = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return entry["table"] if entry.get("key") == key else None


def load(file: Path, truth: Path) -> tuple[Prediction, list[np.ndarray]]:
    """A prediction and the boundaries that the annotators saw; raises `InputError` naming the file that is wrong."""
    boundaries = [one.boundaries for one in read_annotations(truth)]
    return read_prediction(file, (boundaries[0].shape[0], boundaries[0].shape[1])), boundaries


def check(file: Path, truth: Path) -> None:
    """Refuse a wrong file before hours are spent on the others."""
    load(file, truth)


Job = tuple[str, Prediction, list[np.ndarray]]


def count(job: Job, thresholds: int) -> tuple[str, Table]:
    """One image's counts."""
    name, prediction, boundaries = job
    annotators = Annotators(boundaries)
    if prediction.map is None:
        return name, count_masks(prediction.masks, annotators).table().tolist()
    return name, count_pixels(prediction.map, annotators, thresholds_of(thresholds)).table().tolist()


def counted(jobs: Iterator[Job], total: int, thresholds: int, workers: int) -> Iterator[tuple[str, Table]]:
    """The counts of each image as it is done, by several processes of one thread each."""
    with Bar(total) as bar:
        if workers == 1 or total < 2:
            for job in jobs:
                yield count(job, thresholds)
                bar.advance()
            return
        # a fork costs no second import of what the parent holds; the children touch no lock of other threads and no GPU
        method = "fork" if sys.platform == "linux" else "spawn"
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), signal.signal, (signal.SIGINT, signal.SIG_IGN))
        running: set[Future[tuple[str, Table]]] = set()
        try:
            while True:
                # few are loaded ahead: maps in memory are large
                running |= {pool.submit(count, job, thresholds) for job in itertools.islice(jobs, 2 * workers - len(running))}
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                    bar.advance()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Bar:
    """How many images are done and the time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.last = self.start
        columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console()) if sys.stdout.isatty() else None

    def __enter__(self) -> "Bar":
        if self.bar:
            self.bar.start()
            self.line = self.bar.add_task("images", total=self.total)
        return self

    def advance(self) -> None:
        """One more image is done."""
        self.done += 1
        now = time.monotonic()
        if self.bar:
            self.bar.advance(self.line)
        elif now - self.last > PLAIN_LINES:
            self.last = now
            left = (now - self.start) / self.done * (self.total - self.done)
            print(f"{self.done}/{self.total} images, {int(left) // 60}:{int(left) % 60:02d} left", flush=True)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


def write(folder: Path, names: list[str], counts: Counts, run: dict[str, object]) -> dict[str, float]:
    """`metrics.json`, `thresholds.csv` (pooled), `images.csv` (each at its best); returns the figures."""
    table = counts.table()
    thresholds = thresholds_of(table.shape[1])
    result = figures(counts, thresholds) | {"images": float(len(names))}
    pooled = of_table(table.sum(0))
    recall, precision = pooled.recall(), pooled.precision()
    write_rows(
        folder / "thresholds.csv",
        ["threshold", "recall", "precision", "F"],
        np.stack([thresholds, recall, precision, f_measure(recall, precision)], 1),
    )
    best = [best_between(thresholds, one.recall(), one.precision()) for one in map(of_table, table)]
    write_rows(folder / "images.csv", ["name", "threshold", "recall", "precision", "F"], np.array(best), names)
    write_whole(folder / "metrics.json", json.dumps({"figures": result, "run": run}, indent=2) + "\n")
    return result


def write_rows(file: Path, header: list[str], rows: Float[np.ndarray, "row column"], names: list[str] | None = None) -> None:
    """A table with six digits."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for index, row in enumerate(rows):
            writer.writerow(([names[index]] if names else []) + [f"{value:.6f}" for value in row])


def write_whole(file: Path, text: str) -> None:
    """A file that is there whole or not at all, whenever the process is stopped."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(file)
