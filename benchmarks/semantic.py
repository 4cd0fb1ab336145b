"""Measure whether the grouping loss helps classes: digits, ten classes, three seeds.

    python benchmarks/semantic.py folder=<folder> [scenes=8000] [val=200] [test=500] [loops=3]

The variants are cross-entropy alone, with the pairwise loss on X_0, and with the loops. First the learning
rate is chosen for the cross-entropy alone, by mIoU on the validation scenes with the first seed. Then, with
that rate, the weight of the pairwise terms is chosen for each variant that has them. With one seed all
variants have the same initial weights, the same batches in the same order, and equally many steps. Finished
runs are kept, so that the same command resumes. Prints Markdown tables, and writes them into the folder.

Instances are built in two ways: from the connected components of the class map, which every variant has, and
by grouping where pixels are embedded.
"""

import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RATES = (0.001, 0.003, 0.01)
WEIGHTS = (0.03, 0.1, 0.3, 1.0)
SEEDS = (0, 1, 2)
SETTINGS = {"folder": "outputs/semantic", "scenes": "8000", "val": "200", "test": "500", "loops": "3"}
COLUMNS = {
    "mIoU": "mIoU",
    "pixel accuracy": "accuracy",
    "AP, components": "components-AP",
    "APr50, components": "components-APr50",
    "AP, groups": "AP",
    "APr50, groups": "APr50",
    "APr70, groups": "APr70",
    "AR@10": "AR@10",
}

Metrics = dict[str, float]


class Training(NamedTuple):
    """The options that vary; weight 0 is the cross-entropy alone."""

    loops: int
    weight: float
    rate: float
    seed: int = SEEDS[0]

    def run(self, settings: dict[str, str]) -> Metrics:
        """Return test metrics and `val/mIoU`, which is measured once at the end.

        A finished run is read, not repeated. A stopped run starts again.
        """
        folder = (
            Path(settings["folder"]).absolute()
            / f"loops{self.loops}-weight{self.weight:g}-rate{self.rate:g}-seed{self.seed}"
        )
        if not (folder / "metrics.json").exists():
            started = time.monotonic()
            shutil.rmtree(folder, ignore_errors=True)
            varied = [
                f"grouping.iterations={self.loops}",
                f"loss.pairwise.weight={self.weight}",
                f"optimizer.lr={self.rate}",
                f"seed={self.seed}",
            ]
            budget = [
                f"data.{split}_scenes={settings[key]}"
                for split, key in (("train", "scenes"), ("val", "val"), ("test", "test"))
            ]
            command = [
                sys.executable,
                ROOT / "train.py",
                "experiment=digits_semantic",
                "trainer.max_epochs=1",
                f"hydra.run.dir={folder}",
            ]
            subprocess.run([*command, *varied, *budget], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            print(f"{folder.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        metrics: Metrics = json.loads((folder / "metrics.json").read_text())["figures"]
        with (folder / "metrics.csv").open() as rows:
            return metrics | {"val/mIoU": float(list(csv.DictReader(rows))[-1]["val/mIoU"])}


def choose_best(tried: list[Training], settings: dict[str, str]) -> Training:
    """Run the trainings; return the one with the highest mIoU on the validation scenes."""
    reached = {one: one.run(settings)["val/mIoU"] for one in tried}
    for one, score in reached.items():
        options = f"{one.loops} loops, weight {one.weight:g}, learning rate {one.rate:g}"
        print(f"{options}: validation mIoU {score:.4f}", flush=True)
    return max(reached, key=lambda one: reached[one])


def format_row(name: str, runs: list[Metrics]) -> str:
    """Return a table row of mean and standard deviation over the seeds."""
    cells = []
    for key in COLUMNS.values():
        values = [metrics[key] for metrics in runs if key in metrics]
        cells.append(
            f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        )
    return f"| {name} | " + " | ".join(cells) + " |"


def format_gains(runs: dict[str, list[Metrics]]) -> list[str]:
    """Return a table of each variant's gain over the first, seed by seed, as they share their batches."""
    (_, plain), *others = runs.items()
    lines = ["| mIoU gain over cross-entropy alone | mean ± spread | each seed |", "|---|---|---|"]
    for variant, metrics in others:
        ahead = [one["mIoU"] - other["mIoU"] for one, other in zip(metrics, plain, strict=True)]
        spread = f"{statistics.mean(ahead):+.3f} ± {statistics.stdev(ahead):.3f}"
        lines.append(f"| {variant} | {spread} | {', '.join(f'{value:+.3f}' for value in ahead)} |")
    return lines


def main() -> None:
    settings = SETTINGS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    if unknown := settings.keys() - SETTINGS.keys():
        raise SystemExit(f"the keys must be of {', '.join(SETTINGS)}, got {sorted(unknown)[0]}.")
    loops = int(settings["loops"])
    plain = choose_best([Training(0, 0.0, rate) for rate in RATES], settings)
    chosen = [
        plain,
        *(
            choose_best([Training(number, weight, plain.rate) for weight in WEIGHTS], settings)
            for number in (0, loops)
        ),
    ]
    names = [
        "cross-entropy alone",
        f"+ pairwise loss on X_0, weight {chosen[1].weight:g}",
        f"+ {loops} grouping loops, weight {chosen[2].weight:g} each",
    ]
    runs = {
        name: [one._replace(seed=seed).run(settings) for seed in SEEDS]
        for name, one in zip(names, chosen, strict=True)
    }
    lines = [
        f"| training | {' | '.join(COLUMNS)} |",
        "|---" * (1 + len(COLUMNS)) + "|",
        *(format_row(name, metrics) for name, metrics in runs.items()),
    ]
    table = "\n".join(
        [
            f"learning rate {plain.rate:g}, {int(settings['scenes']) // 4} steps of 4 scenes",
            "",
            *lines,
            "",
            *format_gains(runs),
        ]
    )
    (Path(settings["folder"]) / "table.md").write_text(table + "\n")
    print(table, flush=True)


if __name__ == "__main__":
    main()
