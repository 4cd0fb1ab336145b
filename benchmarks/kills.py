"""Kill trainings, sweeps, evaluations and predictions at random moments, and compare what they leave with
undisturbed ones.

    python benchmarks/kills.py folder=<empty folder> [what=training,sweep,evaluation,prediction] [kills=5]
    [seed=0]

Each command runs once undisturbed. Then it is started, killed by SIGKILL together with all its children, and
started again as README says, until it has been killed `kills` times and ends by itself. The moments are
spread over the undisturbed command's duration. Every other kill waits for a file that is being written. After
each kill, every JSON, CSV, PNG and checkpoint must be readable, and no file of a finished part may be gone or
changed. At the end, metrics, tables, pictures and weights must equal the undisturbed command's. Prints a row
a kill, and the differences; the exit status is 1 where there are any.
"""

import csv
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from rpe.data.digits import Digits
from rpe.structures import UserError
from rpe.tools.command import read_arguments, run_tool

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    "experiment=digits",
    "data.train_scenes=32",
    "data.val_scenes=4",
    "data.test_scenes=4",
    "callbacks.pictures.images=1",
)
SCENES = 100
"""Of a prediction: enough for it to write its tables on the way."""

EVALUATED = 50
"""Scenes of an evaluation."""

PATIENCE = 60.0
"""Seconds for which a kill waits for a file that is being written."""

SUFFIXES = (".json", ".csv", ".png", ".ckpt")
UNFINISHED = "*.partial"
Commands = Callable[[Path], list[str]]
Files = Callable[[Path], Iterator[Path]]


class Case(NamedTuple):
    """One kind of command.

    Args:
        start: the command's arguments, for a folder to write.
        again: the same after a kill.
        kept: the files that must still be there after later kills.
        unchanged: those of them that later commands must not write anew.
    """

    start: Commands
    again: Commands
    kept: Files
    unchanged: Files


class Ending(NamedTuple):
    """How a command ended.

    Args:
        seconds: of the processor.
        killed: whether it was killed.
        writing: the file that was being written then, or nothing.
        status: of a command that ended by itself.
    """

    seconds: float
    killed: bool
    writing: str
    status: int


def written_files(folder: Path) -> Iterator[Path]:
    """All files under a folder that programs read back."""
    return (file for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES and file.is_file())


def no_files(folder: Path) -> Iterator[Path]:
    """None: the command writes its files anew."""
    return iter(())


def all_but_metrics(folder: Path) -> Iterator[Path]:
    """All files; `metrics.json` says that a command has ended, so the next one removes it."""
    return (file for file in written_files(folder) if file.name != "metrics.json")


def train(folder: Path) -> list[str]:
    return ["train.py", *SMALL, "trainer.max_epochs=3", f"hydra.run.dir={folder}"]


def resume(folder: Path) -> list[str]:
    """Resume a training, or start it anew where it has no checkpoint."""
    if has_checkpoint(folder):
        return ["train.py", f"resume={folder}"]
    shutil.rmtree(folder, ignore_errors=True)
    return train(folder)


def has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoints" / "last.ckpt").is_file()


def resumable_files(folder: Path) -> Iterator[Path]:
    """The files of a run that can be resumed."""
    return all_but_metrics(folder) if has_checkpoint(folder) else iter(())


def sweep(folder: Path) -> list[str]:
    return [
        "train.py",
        "-m",
        *SMALL,
        "trainer.max_epochs=2",
        "embedding.dimension=3,8",
        "loss.margin=0.3,0.5",
        f"hydra.sweep.dir={folder}",
    ]


def resumable_jobs(folder: Path) -> Iterator[Path]:
    """The files of all jobs of a sweep that can be resumed."""
    return (file for job in folder.glob("*/") for file in resumable_files(job))


def finished_jobs(folder: Path) -> Iterator[Path]:
    """The files of all jobs that have their metrics."""
    return (file for done in folder.glob("*/metrics.json") for file in written_files(done.parent))


def evaluate(folder: Path) -> list[str]:
    return ["evaluate.py", "run=weights/digits", f"data.val_scenes={EVALUATED}", f"hydra.run.dir={folder}"]


def predict(folder: Path) -> list[str]:
    return ["predict.py", "run=weights/digits", f"images={folder.parent / 'scenes'}", f"output={folder}"]


def finished_images(folder: Path) -> Iterator[Path]:
    """The files of all images that have their objects."""
    for objects in folder.glob("objects/*.json"):
        yield objects
        yield from (folder / part / f"{objects.stem}.png" for part in ("labels", "overlays"))


CASES = {
    "training": Case(train, resume, resumable_files, no_files),
    "sweep": Case(sweep, sweep, resumable_jobs, finished_jobs),
    "evaluation": Case(evaluate, evaluate, all_but_metrics, no_files),
    "prediction": Case(predict, predict, written_files, finished_images),
}


def write_scenes(folder: Path) -> None:
    """Write scenes of digits as PNG."""
    folder.mkdir(parents=True)
    data = Digits("digits", 1, 1, 0, 0, 1, SCENES, 1)
    scenes = data.dataset("val")
    for index in range(SCENES):
        pixels = (255 * scenes[index].image).round().byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{index:03}.png")


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, *arguments], stdout=stream, stderr=stream, cwd=ROOT, start_new_session=True
        )


def unfinished_files(folder: Path) -> dict[Path, float]:
    """The files that are being written, or were when a command was killed, and when they were changed
    last."""
    found = {}
    for file in folder.rglob(UNFINISHED):
        with suppress(FileNotFoundError):  # it is finished now
            found[file] = file.stat().st_mtime
    return found


def processor_seconds(process: int) -> float:
    """Seconds of the processor that a process has used; other work on the machine does not count."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(
    arguments: list[str], folder: Path, log: Path, moment: float = math.inf, wait_for_writing: bool = False
) -> Ending:
    """Run a command, and kill it with all its children after so many seconds of the processor, if it has not
    ended before."""
    before = unfinished_files(folder)
    process = start(arguments, log)
    used, latest = 0.0, math.inf
    while process.poll() is None:
        used = max(used, processor_seconds(process.pid))
        if used > moment:
            latest = min(latest, time.monotonic() + PATIENCE)
            writing = next(
                (
                    file.name
                    for file, changed in unfinished_files(folder).items()
                    if before.get(file) != changed
                ),
                "",
            )
            if writing or not wait_for_writing or time.monotonic() > latest:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Ending(used, True, writing, 0)
        time.sleep(0.0003 if used > moment else 0.02)
    return Ending(used, False, "", process.returncode)


def content_of(file: Path) -> Any:
    """Read a file to its end, without what differs between two equal runs."""
    if file.suffix == ".ckpt":
        content = torch.load(file, map_location="cpu", weights_only=True)
        return content["epoch"], {
            name: values.numpy().tobytes() for name, values in content["state_dict"].items()
        }
    if file.suffix == ".png":
        with Image.open(file) as image:
            return image.size, image.tobytes()
    if file.suffix == ".csv":
        rows = list(csv.reader(file.open(newline="")))
        if not rows or {len(row) for row in rows} != {len(rows[0])}:
            raise ValueError("rows of several lengths, or none")
        return rows
    content = json.loads(file.read_text())
    if file.name == "metrics.json":
        return {key: content.get(key) for key in ("metrics", "monitored", "notes")}
    return content


def unreadable(folder: Path) -> list[str]:
    """The files that cannot be read, with the reason."""
    found = []
    for file in written_files(folder):
        try:
            content_of(file)
        except Exception as error:  # every way in which a file may be broken
            found.append(f"{file.relative_to(folder)} cannot be read ({type(error).__name__}: {error})")
    return found


def differences(whole: Path, killed: Path) -> list[str]:
    """The files that two folders do not hold alike."""
    names = {file.relative_to(folder) for folder in (whole, killed) for file in written_files(folder)}
    found = []
    for name in sorted(names):
        one, other = whole / name, killed / name
        if not (one.is_file() and other.is_file()):
            found.append(f"{name} is {'missing' if one.is_file() else 'additional'}")
        elif content_of(one) != content_of(other):
            found.append(f"{name} differs")
    return found


class Seen:
    """What a folder held at the last kill."""

    def __init__(self) -> None:
        self.kept: set[Path] = set()
        self.stamps: dict[Path, tuple[int, int]] = {}
        self.epochs: dict[Path, int] = {}

    def compare(self, case: Case, folder: Path) -> list[str]:
        """Name the files that are gone or written anew since then, and the checkpoints of an earlier
        epoch."""
        faults = [f"{file.relative_to(folder)} is gone" for file in sorted(self.kept) if not file.is_file()]
        stamps = {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in case.unchanged(folder)}
        epochs = {file: content_of(file)[0] for file in folder.rglob("last.ckpt")}
        faults += [
            f"{file.relative_to(folder)} is written anew"
            for file in self.stamps
            if stamps.get(file) != self.stamps[file]
        ]
        faults += [
            f"{file.relative_to(folder)} went back to epoch {epochs[file]}"
            for file in epochs
            if epochs[file] < self.epochs.get(file, 0)
        ]
        self.kept, self.stamps, self.epochs = set(case.kept(folder)), stamps, epochs
        return faults


def measure(name: str, case: Case, folder: Path, kills: int, chance: random.Random) -> list[str]:
    """Run one kind of command undisturbed and killed; prints a row a kill, and returns what is wrong."""
    whole = folder / f"{name}-whole"
    undisturbed = run(case.start(whole), whole, folder / f"{name}-whole.log")
    if undisturbed.status:
        raise UserError(
            f"the undisturbed {name} ended with {undisturbed.status}: see {folder / f'{name}-whole.log'}"
        )
    # one moment in each part of the duration, in any order
    moments = [undisturbed.seconds * (part + chance.random()) / kills for part in range(kills)]
    chance.shuffle(moments)
    faults: list[str] = []
    number = rounds = 0
    anew, wait = True, False
    while number < kills or not anew:
        if anew:
            rounds += 1
            killed, seen = folder / f"{name}-{rounds}", Seen()
        arguments = case.start(killed) if anew else case.again(killed)
        moment = moments[number] if number < kills else math.inf
        ending = run(arguments, killed, folder / f"{name}-{rounds}.log", moment, wait)
        found = seen.compare(case, killed)
        if ending.killed:
            number += 1
            wait = number % 2 == 1
            found += unreadable(killed)
            what = f"kill {number} at {ending.seconds:.1f} of {undisturbed.seconds:.1f} s | {ending.writing}"
        else:
            found += [f"{file.relative_to(killed)} is left" for file in unfinished_files(killed)]
            found += differences(whole, killed) + ([f"exit status {ending.status}"] if ending.status else [])
            what = f"ended after {ending.seconds:.1f} s |"
            if number < kills:  # this kill came too late
                moments[number], wait = moments[number] * (0.9 if anew else 1.0), False
        anew = not ending.killed
        result = "; ".join(found) or ("whole" if ending.killed else "equal")
        print(f"| {name} | {what} | {rounds} | {len(list(written_files(killed)))} | {result} |", flush=True)
        faults += [f"{name}: {fault}" for fault in found]
    return faults


def main(arguments: list[str]) -> int:
    """Measure all kinds of commands; 1 where something is wrong."""
    given = read_arguments(arguments, {"folder": None, "what": "all", "kills": 5, "seed": 0}, str(__doc__))
    names = list(CASES) if given["what"] == "all" else str(given["what"]).split(",")
    if given["folder"] is None or not set(names) <= CASES.keys():
        raise UserError(f"name folder=<empty folder>, and what=all or some of {','.join(CASES)}")
    folder = Path(given["folder"]).absolute()
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"folder must be empty, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    if "prediction" in names:
        write_scenes(folder / "scenes")
    print(
        "| command | moment | file being written | folder | files | found |\n|---|---|---|---|---|---|",
        flush=True,
    )
    began, faults = time.monotonic(), []
    for name in names:
        faults += measure(name, CASES[name], folder, given["kills"], random.Random(f"{given['seed']} {name}"))
    print(f"\n{len(names) * given['kills']} kills in {time.monotonic() - began:.0f} s; {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    run_tool(main)
