"""Compare the loss on X_0 with its floor, at margins that no arrangement of points on the sphere reaches.

    python benchmarks/impossible_margins.py folder=<for the runs> output=docs/impossible-margins.png

Train small runs on digits with train.py, without loops, two at a time; the same command resumes. Take each
run's mean training loss on X_0 over its last epoch. Compute the floor for the scenes' own numbers of groups.
Prints a table and draws it, in about six minutes on 2 cores.
"""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import yaml
from matplotlib.figure import Figure

from rpe.run.building import build_data
from rpe.run.composing import compose_config
from rpe.sphere_packing import loss_floor, smallest_margin
from rpe.structures import UserError
from rpe.tools.advice import count_groups
from rpe.tools.command import read_arguments, run_tool

ROOT = Path(__file__).resolve().parent.parent
MARGINS = {2: (0.1, 0.3, 0.5, 0.7), 3: (0.1, 0.2, 0.3, 0.4, 0.5)}
BUDGET = [
    "grouping.iterations=0",
    "trainer.max_epochs=4",
    "data.train_scenes=480",
    "data.val_scenes=10",
    "data.test_scenes=10",
    "callbacks.pictures.images=0",
    "trainer.check_val_every_n_epoch=4",
]


class MarginResult(NamedTuple):
    """The loss of a run, and its floor."""

    dimension: int
    margin: float
    loss: float
    floor: float


def train(folder: Path, dimension: int) -> list[tuple[float, float]]:
    """Train one run for each margin; return the margins and the mean losses on X_0 of the last epoch."""
    margins = ",".join(map(str, MARGINS[dimension]))
    swept = [
        f"embedding.dimension={dimension}",
        f"loss.pairwise.margin={margins}",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        f"hydra.sweep.dir={folder}",
    ]
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-m", "experiment=digits", *swept, *BUDGET],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    jobs = yaml.safe_load((folder / "sweep.yaml").read_text())["jobs"]
    losses = []
    for name, values in jobs.items():
        rows = list(csv.DictReader((folder / name / "metrics.csv").open()))
        losses.append((float(values["loss.pairwise.margin"]), float(rows[-1]["train/pairwise_0"])))
    return losses


def floor_of_scenes(dimension: int, margin: float) -> float:
    """Return the mean over scenes of the floor for their number of groups."""
    scenes = Counter(count_groups(build_data(compose_config(["experiment=digits"]))))
    return sum(
        number * loss_floor(groups, dimension, margin, starts=32, seed=0) for groups, number in scenes.items()
    ) / sum(scenes.values())


def draw(table: list[MarginResult], file: Path) -> None:
    """Draw loss against margin; floors are dashed."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    for index, dimension in enumerate(MARGINS):
        mine = [row for row in table if row.dimension == dimension]
        axis.plot(
            [row.margin for row in mine],
            [row.loss for row in mine],
            "o-",
            color=f"C{index}",
            label=f"D = {dimension}, measured on X_0",
        )
        axis.plot(
            [row.margin for row in mine],
            [row.floor for row in mine],
            "--",
            color=f"C{index}",
            label=f"D = {dimension}, floor",
        )
        axis.axvline(smallest_margin(6, dimension).margin, color=f"C{index}", linewidth=0.7, linestyle=":")
    axis.set(
        xlabel="margin (dotted: the smallest reachable by six groups)",
        ylabel="pairwise loss",
        ylim=(0, None),
    )
    axis.legend(fontsize=8)
    axis.grid(color="0.92")
    figure.savefig(file, dpi=110)


def main(arguments: list[str]) -> None:
    """Train the runs, print the table, draw the picture."""
    given = read_arguments(arguments, {"folder": None, "output": "impossible-margins.png"}, str(__doc__))
    if given["folder"] is None:
        raise UserError(
            "folder must name a folder for the runs, got nothing. Use e.g. folder=outputs/impossible."
        )
    table = []
    print("| dimension | margin | loss on X_0 | floor | excess |\n|---|---|---|---|---|", flush=True)
    for dimension in MARGINS:
        for margin, loss in train(Path(given["folder"]).absolute() / str(dimension), dimension):
            row = MarginResult(dimension, margin, loss, floor_of_scenes(dimension, margin))
            table.append(row)
            print(
                f"| {dimension} | {margin} | {row.loss:.4f} | {row.floor:.4f} | {row.loss - row.floor:.4f} |",
                flush=True,
            )
    draw(table, Path(str(given["output"])))


if __name__ == "__main__":
    run_tool(main)
