"""Check that a sweep that is killed repeatedly ends with the metrics of an undisturbed one.

    python benchmarks/sweep_kills.py folder=<empty folder> kills=10 -- -m sweep=dimension_x_margin ...

The command runs once undisturbed. Then it runs with `kills` SIGKILLs to the command and all its children, at
random moments, every second one while a checkpoint is being written where possible. After each kill the same
command is given again. Prints a row per kill, and whether the metrics of all jobs are equal.
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
from rpe.tools.command import read_arguments, run_tool

ROOT = Path(__file__).resolve().parent.parent
START = 12.0
"""Seconds in which a command and its workers only import."""


def start(sweep: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in its own process group."""
    sweep.parent.mkdir(parents=True, exist_ok=True)
    log = sweep.with_suffix(".log").open("ab")
    called = [sys.executable, str(ROOT / "train.py"), *arguments, f"hydra.sweep.dir={sweep}"]
    return subprocess.Popen(called, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)


def is_writing(sweep: Path) -> bool:
    """Return True if a checkpoint is being written."""
    return any(sweep.glob("*/checkpoints/*.partial"))


def kill_after(process: subprocess.Popen[bytes], sweep: Path, after: float, writing: bool) -> str | None:
    """Kill the command and all its children after some seconds; return what it was doing.

    With `writing`, wait for the next write of a checkpoint. Return None if the command had ended.
    """
    began = time.monotonic()
    while process.poll() is None:
        late = time.monotonic() - began
        if late > after and (not writing or is_writing(sweep) or late > after + 60):
            activity = "writing a checkpoint" if is_writing(sweep) else "other"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return activity
        time.sleep(0.0005 if writing and late > after else 0.05)
    return None


def read_metrics(sweep: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of all finished jobs."""
    return {
        file.parent.name: json.loads(file.read_text())["figures"]
        for file in sorted(sweep.glob("*/metrics.json"))
    }


def main(arguments: list[str]) -> int:
    """Run both sweeps and compare them; return 1 if they differ."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    theirs = arguments[split + 1 :]
    given = read_arguments(
        arguments[:split], {"folder": None, "kills": 10, "seed": 0, "longest": 60}, str(__doc__)
    )
    if given["folder"] is None or not theirs:
        raise UserError("folder must name an empty folder, with the sweep's arguments after --.")
    folder, chance = Path(given["folder"]).absolute(), random.Random(given["seed"])
    started = time.monotonic()
    status = start(folder / "whole", theirs).wait()
    jobs, seconds = len(read_metrics(folder / "whole")), time.monotonic() - started
    print(f"undisturbed: exit status {status}, {jobs} jobs, {seconds:.0f} s\n", flush=True)
    print("| kill | after, s | activity | jobs done |\n|---|---|---|---|", flush=True)
    number, started = 0, time.monotonic()
    while True:
        process = start(folder / "killed", theirs)
        after = chance.uniform(START, given["longest"])
        activity = (
            kill_after(process, folder / "killed", after, writing=number % 2 == 0)
            if number < given["kills"]
            else None
        )
        if activity is None:
            status = process.wait()
            break
        number += 1
        print(f"| {number} | {after:.0f} | {activity} | {len(read_metrics(folder / 'killed'))} |", flush=True)
    print(f"\n{number} kills, then exit status {status}, {time.monotonic() - started:.0f} s in all")
    whole, repaired = read_metrics(folder / "whole"), read_metrics(folder / "killed")
    differing = [
        (job, name)
        for job in whole.keys() | repaired.keys()
        for name in whole.get(job, {})
        if whole[job][name] != repaired.get(job, {}).get(name)
    ]
    print(f"{len(whole)} and {len(repaired)} jobs; metrics that differ: {len(differing)} {differing[:5]}")
    return int(bool(differing) or whole.keys() != repaired.keys() or status != 0)


if __name__ == "__main__":
    run_tool(main)
