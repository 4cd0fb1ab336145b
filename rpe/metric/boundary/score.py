"""Boundary maps against a split, in memory or a folder of anybody's: figures, tables, and a journal from which a stopped scoring goes on."""

import csv
import hashlib
import io
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
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rpe.data.bsds import read_annotations
from rpe.data.module import as_names
from rpe.metric.boundary.annotators import Annotators
from rpe.metric.boundary.curve import (
    Counts,
    best_between,
    count_masks,
    count_pixels,
    f_measure,
    figures,
    of_table,
    thresholds_of,
)
from rpe.metric.boundary.reading import LARGEST, Prediction, doubts, find_predictions, read_prediction
from rpe.structures import UserError

VERSION = 1
"""Of the counting: a journal of another one is not taken up."""

PLAIN_LINES = 10.0
"""Seconds between two lines where there is no terminal."""

Table = list[list[int]]


@dataclass
class Scored:
    """The counts of each image at each threshold, and what follows from them."""

    names: list[str]
    counts: Counts

    @property
    def thresholds(self) -> Float[np.ndarray, " threshold"]:
        """Of the counts."""
        return thresholds_of(self.counts.truth.shape[1])

    @property
    def figures(self) -> dict[str, float]:
        """As `rpe.metric.boundary.figures`, and `images`, how many there were."""
        return figures(self.counts, self.thresholds) | {"images": float(len(self.names))}

    def curve(self) -> tuple[Float[np.ndarray, " threshold"], Float[np.ndarray, " threshold"]]:
        """Recall and precision of all images together."""
        pooled = of_table(self.counts.table().sum(0))
        return pooled.recall(), pooled.precision()

    def tables(self) -> dict[str, str | bytes]:
        """`thresholds.csv` (pooled) and `images.csv` (each at its best), with six digits."""
        recall, precision = self.curve()
        pooled = np.stack([self.thresholds, recall, precision, f_measure(recall, precision)], 1)
        best = [
            best_between(self.thresholds, one.recall(), one.precision())
            for one in map(of_table, self.counts.table())
        ]
        columns = ["threshold", "recall", "precision", "F"]
        return {
            "thresholds.csv": as_csv([columns, *(six_digits(row) for row in pooled)]),
            "images.csv": as_csv(
                [
                    ["name", *columns],
                    *([name, *six_digits(row)] for name, row in zip(self.names, best, strict=True)),
                ]
            ),
        }


def six_digits(row: Iterable[float]) -> list[str]:
    """Numbers as a table has them."""
    return [f"{value:.6f}" for value in row]


def as_csv(rows: list[list[str]]) -> str:
    """Rows as a CSV file's text."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def score_maps(
    maps: dict[str, UInt8[np.ndarray, "height width"]],
    truths: dict[str, Path],
    thresholds: int,
    progress: bool,
    workers: int | None = None,
) -> Scored:
    """Score maps in memory, in steps of 1/255, as `score_folder` would score them as PNG files.

    Args:
        maps, truths: of each image's name; the truth is its annotation file.
        thresholds: see `score_folder`.
        progress: whether a person sees how far it is.
        workers: processes; None is one for each core.
    """
    names = list(maps)
    jobs = (
        (
            name,
            Prediction(Path(name), maps[name] / LARGEST["L"], []),
            [one.boundaries for one in read_annotations(truths[name])],
        )
        for name in names
    )
    done = {}
    with Bar(len(names) if progress else None) as bar:
        for name, table in counted(jobs, len(names), thresholds, workers or cores()):
            done[name] = table
            bar.advance()
    return Scored(names, of_table(np.array([done[name] for name in names], dtype=np.int64)))


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def score_folder(
    predictions: Path,
    truths: dict[str, Path],
    journal: Path,
    thresholds: int,
    names: Sequence[str | int] | None = None,
    workers: int | None = None,
) -> Scored:
    """Score anybody's boundary maps.

    Args:
        predictions: holds `<name>.png`, `.npy` or `.mat` for each image, see `read_prediction`.
        truths: the annotation file of each image's name.
        journal: a folder for the counts of finished images, which a later call with the same files does not count again.
        thresholds: their number, 99 in the official protocol. Segmentations count one threshold each.
        names: of the images to score, see `as_names`; None is all.
        workers: processes; None is one for each core.

    Raises:
        UserError: anything wrong with the files, before any is counted.
    """
    chosen = as_names(names, sorted(truths))
    files = find_predictions(predictions, chosen)
    journal.mkdir(parents=True, exist_ok=True)
    keys = {name: key_of(files[name], truths[name], thresholds) for name in chosen}
    done = {
        name: table
        for name in chosen
        if (table := recall_table(journal / f"{name}.json", keys[name])) is not None
    }
    waiting = [name for name in chosen if name not in done]
    # a wrong file is refused before hours are spent on the others
    for line in doubts(
        (load(files[name], truths[name])[0] for name in chosen), float(thresholds_of(thresholds)[0])
    ):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    if done and waiting:
        print(f"{len(done)} of {len(chosen)} images were counted before", flush=True)
    jobs = ((name, *load(files[name], truths[name])) for name in waiting)
    with Bar(len(waiting)) as bar:
        for name, table in counted(jobs, len(waiting), thresholds, workers or cores()):
            done[name] = table
            write_whole(journal / f"{name}.json", json.dumps({"key": keys[name], "table": table}))
            bar.advance()
    if len({len(table) for table in done.values()}) > 1:
        raise UserError(
            f"predictions in {predictions} hold different numbers of segmentations (or maps beside them): each image needs as many"
        )
    return Scored(chosen, of_table(np.array([done[name] for name in chosen], dtype=np.int64)))


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
    """A prediction and the boundaries that the annotators saw; raises `UserError` naming the file that is wrong."""
    boundaries = [one.boundaries for one in read_annotations(truth)]
    return read_prediction(file, (boundaries[0].shape[0], boundaries[0].shape[1])), boundaries


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
    if workers == 1 or total < 2:
        for job in jobs:
            yield count(job, thresholds)
        return
    # a fork costs no second import of what the parent holds; the children touch no lock of other threads and no GPU
    method = "fork" if sys.platform == "linux" else "spawn"
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), begin_worker, (os.getpid(),))
    running: set[Future[tuple[str, Table]]] = set()
    try:
        while True:
            # few are loaded ahead: maps in memory are large
            running |= {
                pool.submit(count, job, thresholds)
                for job in itertools.islice(jobs, 2 * workers - len(running))
            }
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def begin_worker(parent: int) -> None:
    """The terminal's Ctrl-C is the parent's to answer; and where the parent is killed, its workers go too: they would wait for it for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=leave_with, args=(parent,), daemon=True).start()


def leave_with(parent: int) -> None:
    """End this process once its parent is another."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class Bar:
    """How many images are done and the time left: a bar on a terminal, a line now and then elsewhere; silent without a total."""

    def __init__(self, total: int | None) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.last = self.start
        columns = (
            TextColumn("images"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = (
            Progress(*columns, console=Console()) if total is not None and sys.stdout.isatty() else None
        )

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
        elif self.total is not None and now - self.last > PLAIN_LINES:
            self.last = now
            left = (now - self.start) / self.done * (self.total - self.done)
            print(f"{self.done}/{self.total} images, {int(left) // 60}:{int(left) % 60:02d} left", flush=True)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


def write_whole(file: Path, text: str) -> None:
    """A file that is there whole or not at all, whenever the process is stopped."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(file)
