"""Does the grouping loss help the classes? Digits, ten classes, three seeds: cross-entropy alone, with the pairwise loss on X_0, with the loops.

`python benchmarks/semantic.py folder=<folder> [scenes=8000] [val=200] [test=500] [loops=3]`: the learning rate is chosen first, for the
cross-entropy alone, by mIoU on the validation scenes with the first seed; all variants then train with that one. With a seed all variants have the
same initial weights, the same batches in the same order and as many steps. Finished runs are kept: the same command goes on where it was stopped.
Prints Markdown tables, and writes them into the folder.

Instances are made in two ways: by the connected parts of the class map, which every variant has, and where pixels are embedded by grouping them.
"""

import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RATES = (0.001, 0.003, 0.01)
SEEDS = (0, 1, 2)
SETTINGS = {"folder": "outputs/semantic", "scenes": "8000", "val": "200", "test": "500", "loops": "3"}
VARIANTS = {
    "cross-entropy alone": ["loss.pairwise_weight=0", "grouping.iterations=0"],
    "+ pairwise loss on X_0": ["loss.pairwise_weight=1", "grouping.iterations=0"],
    "+ {loops} grouping loops": ["loss.pairwise_weight=1", "grouping.iterations={loops}"],
}
COLUMNS = {
    "mIoU": "mIoU",
    "pixel accuracy": "accuracy",
    "AP, connected parts": "components-AP",
    "APr50, connected parts": "components-APr50",
    "AP, groups": "AP",
    "APr50, groups": "APr50",
    "APr70, groups": "APr70",
}

Figures = dict[str, float]


def folder_of(settings: dict[str, str], variant: str, rate: float, seed: int) -> Path:
    """Where a run lies."""
    return Path(settings["folder"]).absolute() / f"{list(VARIANTS).index(variant)}-rate{rate:g}-seed{seed}"


def train(settings: dict[str, str], variant: str, rate: float, seed: int) -> Figures:
    """Test figures of one run of a variant, which validates once, at its end; a finished run is read, not repeated, and a stopped one is done anew."""
    folder = folder_of(settings, variant, rate, seed)
    if not (folder / "metrics.json").exists():
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        budget = [f"data.{split}_scenes={settings[key]}" for split, key in (("train", "scenes"), ("val", "val"), ("test", "test"))]
        options = [option.format(**settings) for option in VARIANTS[variant]]
        fixed = ["experiment=digits_semantic", "trainer.max_epochs=1", f"optimizer.lr={rate}", f"seed={seed}", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, ROOT / "train.py", *fixed, *options, *budget], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        print(f"{folder.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    figures: Figures = json.loads((folder / "metrics.json").read_text())["figures"]
    return figures


def best_rate(settings: dict[str, str]) -> float:
    """The learning rate with which the cross-entropy alone reaches the highest mIoU on the validation scenes, of the first seed."""
    first, reached = next(iter(VARIANTS)), {}
    for rate in RATES:
        train(settings, first, rate, SEEDS[0])
        with (folder_of(settings, first, rate, SEEDS[0]) / "metrics.csv").open() as rows:
            reached[rate] = float(list(csv.DictReader(rows))[-1]["val/mIoU"])
        print(f"cross-entropy alone, learning rate {rate:g}: validation mIoU {reached[rate]:.4f}", flush=True)
    return max(reached, key=lambda rate: reached[rate])


def row(name: str, runs: list[Figures]) -> str:
    """Mean and standard deviation over the seeds."""
    cells = []
    for key in COLUMNS.values():
        values = [figures[key] for figures in runs if key in figures]
        cells.append(f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")
    return f"| {name} | " + " | ".join(cells) + " |"


def gains(runs: dict[str, list[Figures]]) -> list[str]:
    """What each variant is ahead of the first, seed by seed: as the batches are the same, this varies less than the figures themselves."""
    (_, plain), *others = runs.items()
    lines = ["| mIoU ahead of the cross-entropy alone | mean ± spread | each seed |", "|---|---|---|"]
    for variant, figures in others:
        ahead = [one["mIoU"] - other["mIoU"] for one, other in zip(figures, plain, strict=True)]
        spread = f"{statistics.mean(ahead):+.3f} ± {statistics.stdev(ahead):.3f}"
        lines.append(f"| {variant} | {spread} | {', '.join(f'{value:+.3f}' for value in ahead)} |")
    return lines


def main() -> None:
    settings = SETTINGS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    if unknown := settings.keys() - SETTINGS.keys():
        raise SystemExit(f"{sorted(unknown)[0]} is unknown: the keys are {', '.join(SETTINGS)}")
    rate = best_rate(settings)
    runs = {variant.format(**settings): [train(settings, variant, rate, seed) for seed in SEEDS] for variant in VARIANTS}
    lines = [f"| training | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|", *(row(name, figures) for name, figures in runs.items())]
    table = "\n".join([f"learning rate {rate:g}, {int(settings['scenes']) // 4} steps of 4 scenes", "", *lines, "", *gains(runs)])
    (Path(settings["folder"]) / "table.md").write_text(table + "\n")
    print(table, flush=True)


if __name__ == "__main__":
    main()
