"""Do the loops pay in training? Digits, three seeds, `grouping.iterations` 0, 1 and 3, the same inference for all.

`python benchmarks/grouping_pays.py <folder>`: equal steps, and for 0 loops also the steps that fit into the time of 3 loops. Prints a table.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCENES = 3200
SEEDS = (0, 1, 2)


def train(folder: Path, seed: int, iterations: int, scenes: int) -> tuple[float, float, float]:
    """Test AR@10, test ARI of the modes, and seconds of one run; a finished run is read, not repeated."""
    if not (folder / "metrics.json").exists():
        overrides = [f"seed={seed}", f"grouping.iterations={iterations}", f"data.train_scenes={scenes}", "trainer.max_epochs=1"]
        start = time.monotonic()
        subprocess.run([sys.executable, ROOT / "train.py", *overrides, f"hydra.run.dir={folder}"], check=True, stdout=subprocess.DEVNULL)
        (folder / "seconds").write_text(str(time.monotonic() - start))
    figures = json.loads((folder / "metrics.json").read_text())["figures"]
    return figures["AR@10"], figures["ARI-modes"], float((folder / "seconds").read_text())


def row(name: str, runs: list[tuple[float, float, float]]) -> None:
    recall, agreement, seconds = zip(*runs, strict=True)
    spread = f"{statistics.mean(recall):.3f} ± {statistics.stdev(recall):.3f} | {statistics.mean(agreement):.3f} ± {statistics.stdev(agreement):.3f}"
    print(f"| {name} | {spread} | {statistics.mean(seconds):.0f} |", flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    found = {}
    for iterations in (0, 1, 3):
        found[iterations] = [train(folder / f"loops{iterations}-seed{seed}", seed, iterations, SCENES) for seed in SEEDS]
        row(f"{iterations} loops, {SCENES} scenes", found[iterations])
    # the start and the test cost the same for all: an idle run's time is taken off before the rest is compared
    train(folder / "idle", 0, 0, 8)
    idle = float((folder / "idle" / "seconds").read_text())
    mean = {iterations: statistics.mean(run[2] for run in runs) - idle for iterations, runs in found.items()}
    for iterations in (0,):
        scenes = int(SCENES * mean[3] / mean[iterations])
        runs = [train(folder / f"loops{iterations}-time-seed{seed}", seed, iterations, scenes) for seed in SEEDS]
        row(f"{iterations} loops, {scenes} scenes (the time of 3 loops)", runs)


if __name__ == "__main__":
    main()
