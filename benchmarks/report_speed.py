"""Seconds of `python -m rpe.tools.report` on made sweeps of 12, 50 and 200 run folders, some broken in each way, imports included, in a process of its own.

`python benchmarks/report_speed.py`
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from made_sweep import write_sweep  # noqa: E402

REPEATS = 3


def main() -> None:
    print(
        "| run folders | not finished or broken | all of them listed | seconds (fastest of 3) | page |\n|---|---|---|---|---|"
    )
    for points in (12, 50, 200):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            said = write_sweep(folder, points)
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "rpe.tools.report", f"sweep={folder}"],
                    check=True,
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                )
                seconds.append(time.perf_counter() - start)
            text = (folder / "report.md").read_text()
            listed = all(
                any(f"- {point}" in line and words in line for line in text.splitlines())
                for point, words in said.items()
                if words != "pending"
            )
            size = (folder / "report.html").stat().st_size / 1e6
            print(
                f"| {points} | {len(said)} | {'yes' if listed else 'NO'} | {min(seconds):.1f} | {size:.1f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
