"""Measure whether the grouping loss helps classes, by mIoU of three seeds.

    python benchmarks/semantic.py folder=<folder> [experiment=digits_semantic] [loops=3]
        [rates=0.001,0.003,0.01] [weights=0.03,0.1,0.3,1] [test_root=<data.root of the test>]
        [key=value of train.py ..]

The variants are cross-entropy alone, with the pairwise loss on X_0, and with the loops. First the learning
rate is chosen for the cross-entropy alone, by mIoU on the validation images with the first seed. Then, with
that rate, the weight of the pairwise terms is chosen for each variant that has them. With one seed all
variants have the same initial weights, the same batches in the same order, and equally many steps: one epoch.
Metrics are those of the run's own test, or with `test_root` of another folder's images. Finished runs are
kept, so that the same command resumes. Prints Markdown tables, and writes them into the folder.

Instances are built in two ways: from the connected components of the class map, which every variant has, and
by grouping where pixels are embedded.
"""

import csv
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from rpe.tools.report.jobs import read_metrics

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)
SETTINGS = {
    "folder": "outputs/semantic",
    "experiment": "digits_semantic",
    "loops": "3",
    "rates": "0.001,0.003,0.01",
    "weights": "0.03,0.1,0.3,1",
    "test_root": "",
}
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

    def run(self, settings: dict[str, str], overrides: list[str]) -> Path:
        """Return the folder of the run. A finished run is kept. A stopped run starts again."""
        folder = (
            Path(settings["folder"]).absolute()
            / f"loops{self.loops}-weight{self.weight:g}-rate{self.rate:g}-seed{self.seed}"
        )
        if not (folder / "metrics.json").exists():
            started = time.monotonic()
            shutil.rmtree(folder, ignore_errors=True)
            call(
                "train.py",
                f"experiment={settings['experiment']}",
                f"grouping.iterations={self.loops}",
                f"loss.pairwise.weight={self.weight}",
                f"optimizer.lr={self.rate}",
                f"seed={self.seed}",
                "trainer.max_epochs=1",
                "trainer.check_val_every_n_epoch=1",
                *overrides,
                f"hydra.run.dir={folder}",
            )
            print(f"{folder.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return folder


def call(program: str, *overrides: str) -> None:
    """Run one of the programs of this project; its errors are shown."""
    command = [sys.executable, str(ROOT / program), *overrides]
    if subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT).returncode:
        raise SystemExit(f"{program} must end well, but ended with the error above.")


def read_validation(run: Path) -> float:
    """Return mIoU on the validation images, which is measured once at the end."""
    with (run / "metrics.csv").open() as rows:
        return float(list(csv.DictReader(rows))[-1]["val/mIoU"])


def read_test(run: Path, root: str) -> Metrics:
    """Return the test metrics of a run, on the images below `root` if it is not empty."""
    folder = run
    if root:
        folder = run / "tested"
        if not (folder / "metrics.json").exists():
            call("evaluate.py", f"run={run}", f"data.root={root}", f"hydra.run.dir={folder}")
    metrics: Metrics = read_metrics(folder / "metrics.json")[0]
    return metrics


def choose_best(tried: list[Training], settings: dict[str, str], overrides: list[str]) -> Training:
    """Run the trainings; return the one with the highest mIoU on the validation images."""
    reached = {one: read_validation(one.run(settings, overrides)) for one in tried}
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
    """Return a table of each variant's gain over the first, seed by seed, as they share their batches.

    The half width of the 95 % interval is Student's t over the seeds.
    """
    (_, plain), *others = runs.items()
    lines = ["| mIoU gain over cross-entropy alone | mean, 95 % interval | each seed |", "|---|---|---|"]
    for variant, metrics in others:
        ahead = [one["mIoU"] - other["mIoU"] for one, other in zip(metrics, plain, strict=True)]
        half = stats.t.ppf(0.975, len(ahead) - 1) * statistics.stdev(ahead) / len(ahead) ** 0.5
        each = ", ".join(f"{value:+.3f}" for value in ahead)
        lines.append(f"| {variant} | {statistics.mean(ahead):+.3f} ± {half:.3f} | {each} |")
    return lines


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    settings = SETTINGS | {key: value for key, value in given.items() if key in SETTINGS}
    overrides = [f"{key}={value}" for key, value in given.items() if key not in SETTINGS]
    loops = int(settings["loops"])
    rates, weights = (list(map(float, settings[key].split(","))) for key in ("rates", "weights"))
    plain = choose_best([Training(0, 0.0, rate) for rate in rates], settings, overrides)
    chosen = [
        plain,
        *(
            choose_best([Training(number, weight, plain.rate) for weight in weights], settings, overrides)
            for number in (0, loops)
        ),
    ]
    names = [
        "cross-entropy alone",
        f"+ pairwise loss on X_0, weight {chosen[1].weight:g}",
        f"+ {loops} grouping loops, weight {chosen[2].weight:g} each",
    ]
    runs = {
        name: [
            read_test(one._replace(seed=seed).run(settings, overrides), settings["test_root"])
            for seed in SEEDS
        ]
        for name, one in zip(names, chosen, strict=True)
    }
    lines = [
        f"| training | {' | '.join(COLUMNS)} |",
        "|---" * (1 + len(COLUMNS)) + "|",
        *(format_row(name, metrics) for name, metrics in runs.items()),
    ]
    table = "\n".join([f"learning rate {plain.rate:g}", "", *lines, "", *format_gains(runs)])
    (Path(settings["folder"]) / "table.md").write_text(table + "\n")
    print(table, flush=True)


if __name__ == "__main__":
    main()
