"""Time `python -m rpe.tools.report` on synthetic sweeps of 12, 50 and 200 run folders, some of them broken.

    python benchmarks/report_speed.py

Each report runs in its own process, imports included.
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
    print("| run folders | unfinished or broken | all of these listed | seconds (fastest of 3) | page |")
    print("|---|---|---|---|---|")
    for jobs in (12, 50, 200):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            unfinished = write_sweep(folder, jobs)
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
                any(f"- {job}" in line and words in line for line in text.splitlines())
                for job, words in unfinished.items()
                if words != "pending"
            )
            size = (folder / "report.html").stat().st_size / 1e6
            cells = [
                jobs,
                len(unfinished),
                "yes" if listed else "NO",
                f"{min(seconds):.1f}",
                f"{size:.1f} MB",
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
