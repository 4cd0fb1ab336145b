"""Measure whether loops in training pay: digits, three seeds, `grouping.iterations` 0, 1, 3.

Inference is the same for all.

    python benchmarks/grouping_pays.py <folder>

All train for equal steps; 0 loops also for as many steps as fit into the time of 3 loops. Prints a table.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

import rpe.run

ROOT = Path(__file__).resolve().parent.parent
SCENES = 3200
SEEDS = (0, 1, 2)


def train(folder: Path, seed: int, iterations: int, scenes: int) -> tuple[float, float]:
    """Return test AR@10 and the modes' test ARI of one run; a finished run is read, not repeated."""
    if not (folder / "metrics.json").exists():
        overrides = [
            "experiment=digits",
            f"seed={seed}",
            f"grouping.iterations={iterations}",
            f"data.train_scenes={scenes}",
            "trainer.max_epochs=1",
        ]
        subprocess.run(
            [sys.executable, ROOT / "train.py", *overrides, f"hydra.run.dir={folder}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    metrics = json.loads((folder / "metrics.json").read_text())["figures"]
    return metrics["AR@10"], metrics["ARI-modes"]


def print_row(name: str, runs: list[tuple[float, float]]) -> None:
    recall, agreement = zip(*runs, strict=True)
    cells = [
        f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in (recall, agreement)
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    for iterations in (0, 1, 3):
        print_row(
            f"{iterations} loops, {SCENES} scenes",
            [train(folder / f"loops{iterations}-seed{seed}", seed, iterations, SCENES) for seed in SEEDS],
        )
    ratio = step_ratio()
    scenes = int(SCENES * ratio)
    print(f"a step with 3 loops takes {ratio:.2f} times as long as one without")
    print_row(
        f"0 loops, {scenes} scenes (the time of 3 loops)",
        [train(folder / f"loops0-time-seed{seed}", seed, 0, scenes) for seed in SEEDS],
    )


def step_ratio() -> float:
    """Return the time of a training step with 3 loops over that without loops.

    Both are medians of alternating steps, so that they see the same machine.
    """
    seconds: dict[int, list[float]] = {0: [], 3: []}
    made = {}
    for iterations in seconds:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("train", ["experiment=digits", f"grouping.iterations={iterations}"])
        task, data = rpe.run.build_task(config), rpe.run.build_data(config)
        made[iterations] = (task, task.optimizer(task), next(iter(data.train_dataloader())))
    for _ in range(40):
        for iterations, (task, optimizer, batch) in made.items():
            start = time.perf_counter()
            positions, labels = task.loss.pairwise.choose_pixels(batch.labels, torch.Generator())
            output, iterates = task.model(batch.images, positions)
            optimizer.zero_grad()
            terms = task.loss(iterates, positions, labels, output, batch)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            seconds[iterations].append(time.perf_counter() - start)
    return statistics.median(seconds[3]) / statistics.median(seconds[0])


if __name__ == "__main__":
    main()
