"""Draw the loops of mean shift, and the gradient through them."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from rpe.data.module import SplitDataset, collate
from rpe.grouping import mean_shift, nonblurring_mean_shift
from rpe.overlay import colours_of
from rpe.picture.dynamics import draw_comparison, draw_projections, moves_table, spread_loops
from rpe.picture.gradients import draw_gradients
from rpe.picture.sheet import sample_points
from rpe.picture.sphere import Motion, animate_sphere, draw_sphere
from rpe.picture.surviving import Survival, draw_survival, trace_survival
from rpe.run import build_data
from rpe.run.trained import load_run
from rpe.run_files import write_whole
from rpe.sphere import check_bandwidth, concentration_of_bandwidth
from rpe.structures import UserError, check_count
from rpe.task.instance import InstanceTask
from rpe.tools.command import read_arguments, run_tool

DEFAULTS: dict[str, Any] = {
    "run": None,
    "image": 0,
    "split": "val",
    "loops": 10,
    "bandwidth": None,
    "output": None,
    "animation": True,
}

USAGE = """
Draw how the loops move the pixels of one image, and the gradient through them:

  python -m rpe.tools.dynamics run=<run folder> [key=value ...]
      gradients.png, surviving.png, surviving.csv  the gradient on a circle, and at each pixel of the image
      sphere.png, sphere.gif, comparison.png, projections.png, moves.csv  the moves
  python -m rpe.tools.dynamics output=<folder>
      gradients.png alone

  image      index of the image in the split (0)
  split      train, val or test (val)
  loops      number of loops (10)
  bandwidth  bandwidth of the loops (the run's)
  animation  false leaves sphere.gif out (true)
  output     a folder (<run>/dynamics)
"""

MAX_ITERATES = 6
"""Iterates that stand side by side in a picture."""

PROJECTION_SEEDS = [1, 2]
"""Seeds of the random projections."""

CIRCLE_OUTLIER, CIRCLE_MEMBERS, CIRCLE_BANDWIDTH, CIRCLE_MARGIN = 11.0, 20, 0.2, 0.5
"""The gradient's example on a circle. The outlier arrives at the wrong group between the fifth loop and the
seventh, so both outcomes are seen."""


def main(arguments: list[str]) -> None:
    """Draw all pictures.

    Raises:
        UserError: neither run nor output is given, the run groups nothing, or the image does not exist.
    """
    values = read_arguments(arguments, DEFAULTS, USAGE)
    check_count("loops", values["loops"], 1, "it is the number of mean shift steps")
    if values["bandwidth"] is not None:
        check_bandwidth(values["bandwidth"])
    if not isinstance(values["animation"], bool):
        raise UserError(f"animation must be true or false, got {values['animation']}.")
    if values["run"] is None and values["output"] is None:
        raise UserError(
            "run or output must be given, got neither. "
            "Add run=outputs/digits/<time>, or output=<folder> for the circle alone."
        )
    folder = Path(values["output"] or Path(values["run"]) / "dynamics")
    draw = None if values["run"] is None else compute_motions(values)
    folder.mkdir(parents=True, exist_ok=True)
    draw_gradients(CIRCLE_OUTLIER, CIRCLE_MEMBERS, CIRCLE_BANDWIDTH, CIRCLE_MARGIN, folder / "gradients.png")
    if draw is not None:
        draw_image(draw, folder, values["animation"])
    print(f"written: {folder}")


class Drawn(NamedTuple):
    """One image: its pixels under both kinds of loops, itself, its true objects, and its gradients."""

    motions: dict[str, Motion]
    image: Any
    truth: Any
    survival: Survival


def compute_motions(values: dict[str, Any]) -> Drawn:
    """Return all that is drawn of the image.

    Raises:
        UserError: the run groups no objects, or the image does not exist.
    """
    trained = load_run(values["run"])
    if not isinstance(trained.task, InstanceTask):
        raise UserError(
            f"run must group pixels into objects, got {values['run']}, which detects boundaries. "
            "Choose another."
        )
    model = trained.task.model
    dataset = build_data(trained.config).dataset(str(values["split"]))
    assert isinstance(dataset, SplitDataset)
    check_count("image", values["image"], 0, f"it is the index of one of the split's {len(dataset)} images")
    if values["image"] >= len(dataset):
        raise UserError(f"image must be < {len(dataset)} for split={values['split']}, got {values['image']}.")
    batch = collate([dataset[values["image"]]])
    with torch.no_grad():
        points, size = sample_points(model.embed(batch.images), batch.labels)
        own = float(model.grouping.concentration)
        kappa = own if values["bandwidth"] is None else concentration_of_bandwidth(values["bandwidth"])
        loops = values["loops"]
        runs = {
            "blurring": mean_shift(points, kappa, loops),
            "non-blurring": nonblurring_mean_shift(points, kappa, loops),
        }
    labels = torch.nn.functional.interpolate(batch.labels[:, None].double(), size=size, mode="nearest")[
        0, 0
    ].long()
    motions = {
        name: Motion([iterate[0] for iterate in iterates], labels.flatten(), size)
        for name, iterates in runs.items()
    }
    return Drawn(
        motions,
        batch.images[0].permute(1, 2, 0).numpy(),
        colours_of(labels.numpy()),
        trace_survival(points, labels.flatten(), kappa, trained.task.loss.pairwise.margin),
    )


def draw_image(drawn: Drawn, folder: Path, animation: bool) -> None:
    """Draw all pictures of one image, and write its moves and gradients as tables."""
    motions, image, truth, survival = drawn
    motion = motions["blurring"]
    loops = spread_loops(len(motion.iterates) - 1, MAX_ITERATES)
    table = moves_table(motions)
    write_whole(folder / "moves.csv", table)
    print(table, end="")
    write_whole(folder / "surviving.csv", survival.table())
    print(survival.table(), end="")
    draw_survival(survival, image, truth, folder / "surviving.png")
    draw_sphere(motion, loops, folder / "sphere.png")
    draw_comparison(motions, loops, image, truth, folder / "comparison.png")
    draw_projections(motion, loops, image, truth, PROJECTION_SEEDS, folder / "projections.png")
    if animation:
        animate_sphere(motion, truth, folder / "sphere.gif")


if __name__ == "__main__":
    run_tool(main)
