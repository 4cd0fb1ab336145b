"""A sweep that is killed again and again ends with the table of one that is not.

    python benchmarks/sweep_kills.py folder=<empty folder> kills=10 -- -m sweep=dimension_x_margin launcher=joblib hydra.launcher.n_jobs=2 ...

Runs the command once without a disturbance and once with `kills` SIGKILLs to the command and all its children, at random moments, every other one of them (as far as
they come) while a checkpoint is being written; after each the same command is given again. Prints a row a kill, and whether the figures of all points are equal.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from rpe.structures import UserError
from rpe.tools.command import command, read_arguments

ROOT = Path(__file__).resolve().parent.parent
START = 12.0
"""Seconds in which a command and its workers have only been importing."""


def start(sweep: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    sweep.parent.mkdir(parents=True, exist_ok=True)
    log = sweep.with_suffix(".log").open("ab")
    called = [sys.executable, str(ROOT / "train.py"), *arguments, f"hydra.sweep.dir={sweep}"]
    return subprocess.Popen(called, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)


def is_writing(sweep: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any(sweep.glob("*/checkpoints/*.partial"))


def killed(process: subprocess.Popen[bytes], sweep: Path, after: float, writing: bool) -> str | None:
    """Kill the command with all its children after so many seconds, or when a checkpoint is being written after that; what it was doing, or None if it had ended."""
    began = time.monotonic()
    while process.poll() is None:
        late = time.monotonic() - began
        if late > after and (not writing or is_writing(sweep) or late > after + 60):
            what = "writing a checkpoint" if is_writing(sweep) else "else"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return what
        time.sleep(0.0005 if writing and late > after else 0.05)
    return None


def figures(sweep: Path) -> dict[str, dict[str, float]]:
    """Of all finished points."""
    return {
        file.parent.name: json.loads(file.read_text())["figures"]
        for file in sorted(sweep.glob("*/metrics.json"))
    }


def main(arguments: list[str]) -> int:
    """The two sweeps and the comparison; 1 where they differ."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    theirs = arguments[split + 1 :]
    given = read_arguments(
        arguments[:split], {"folder": None, "kills": 10, "seed": 0, "longest": 60}, str(__doc__)
    )
    if given["folder"] is None or not theirs:
        raise UserError("name folder=<empty folder>, and the sweep's arguments after --")
    folder, chance = Path(given["folder"]).absolute(), random.Random(given["seed"])
    started = time.monotonic()
    status = start(folder / "whole", theirs).wait()
    print(
        f"undisturbed: exit status {status}, {len(figures(folder / 'whole'))} points, {time.monotonic() - started:.0f} s\n",
        flush=True,
    )
    print("| kill | after, s | it was | points done |\n|---|---|---|---|", flush=True)
    number, started = 0, time.monotonic()
    while True:
        process = start(folder / "killed", theirs)
        after = chance.uniform(START, given["longest"])
        what = (
            killed(process, folder / "killed", after, writing=number % 2 == 0)
            if number < given["kills"]
            else None
        )
        if what is None:
            status = process.wait()
            break
        number += 1
        print(f"| {number} | {after:.0f} | {what} | {len(figures(folder / 'killed'))} |", flush=True)
    print(f"\n{number} kills, then exit status {status}, {time.monotonic() - started:.0f} s in all")
    whole, repaired = figures(folder / "whole"), figures(folder / "killed")
    differing = [
        (point, name)
        for point in whole.keys() | repaired.keys()
        for name in whole.get(point, {})
        if whole[point][name] != repaired.get(point, {}).get(name)
    ]
    print(f"{len(whole)} and {len(repaired)} points; figures that differ: {len(differing)} {differing[:5]}")
    return int(bool(differing) or whole.keys() != repaired.keys() or status != 0)


if __name__ == "__main__":
    command(main)
