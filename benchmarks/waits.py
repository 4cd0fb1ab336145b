"""Tabulate what a person waits for: `import rpe`, `--help`, the first step of a training, a prediction.

    python benchmarks/waits.py image=<a photograph> [repeats=3]

Each row is a process of its own on one thread, and the least of the repeats counts. Where the machine does
other work too, CPU seconds say more than wall seconds.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
from rich.console import Console
from rich.table import Table

from rpe.tools.command import read_arguments, run_tool

ROOT = Path(__file__).resolve().parent.parent

AIMS = {"train.py --help": 2.0, "first step of digits": 10.0, "predict.py, one image": 6.0}
"""Seconds that a wait should take at most."""


class StopAfterStep(lightning.Callback):
    """End the program after its first step; the rest of a training is no wait for a start."""

    def on_train_batch_end(self, *_: Any) -> None:
        os._exit(0)


def waits(image: str | None, folder: Path) -> dict[str, list[str]]:
    """Return the arguments of Python for each wait."""
    found = {
        "import rpe": ["-c", "import rpe"],
        "rpe.load": ["-c", "import rpe; rpe.load"],
        "train.py --help": ["train.py", "--help"],
        "predict.py --help": ["predict.py", "--help"],
        "rpe export --help": ["-m", "rpe", "export", "--help"],
        "first step of digits": [
            "train.py",
            "experiment=digits",
            f"hydra.run.dir={folder}/run",
            "+callbacks.stop._target_=waits.StopAfterStep",
        ],
    }
    if image is not None:
        found["predict.py, one image"] = [
            "predict.py",
            "run=weights/photographs",
            f"images={image}",
            f"output={folder}/predicted",
        ]
    return found


def measure(arguments: list[str]) -> tuple[float, float]:
    """Return the wall and CPU seconds of a Python process.

    Raises:
        CalledProcessError: the process failed.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str]) -> None:
    """Measure each wait, and print the table."""
    values = read_arguments(arguments, {"image": None, "repeats": 3}, str(__doc__))
    table = Table("what", "wall s", "CPU s", "aim")
    image = values["image"] and str(Path(values["image"]).absolute())
    for name in waits(image, Path()):
        found = []
        for _ in range(values["repeats"]):
            with tempfile.TemporaryDirectory() as folder:
                found.append(measure(waits(image, Path(folder))[name]))
        wall, cpu = (min(seconds) for seconds in zip(*found, strict=True))
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"< {AIMS[name]:g}" if name in AIMS else "")
    Console().print(table)


if __name__ == "__main__":
    run_tool(main)
