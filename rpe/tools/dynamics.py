"""The loops at work, as pictures: `python -m rpe.tools.dynamics run=<run folder>`; without a run the analysis of the gradient on a circle alone."""

from pathlib import Path
from typing import Any

import torch

from rpe.data.module import SplitDataset, collate
from rpe.grouping import mean_shift, nonblurring_mean_shift
from rpe.network.model import PixelEmbedding
from rpe.overlay import colours_of
from rpe.picture.dynamics import draw_comparison, draw_projections, moves_table, spread_loops
from rpe.picture.gradients import draw_gradients
from rpe.picture.sheet import embedded_pixels
from rpe.picture.sphere import Motion, animate_sphere, draw_sphere
from rpe.run import build_data
from rpe.run.trained import load_run
from rpe.run_files import write_whole
from rpe.sphere import check_bandwidth, concentration_of_bandwidth
from rpe.structures import UserError, check_count
from rpe.tools.command import command, read_arguments

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
Draw what the loops do to the pixels of one image, and to the gradient:

  python -m rpe.tools.dynamics run=<run folder> [key=value ...]     gradients.png, sphere.png, sphere.gif, comparison.png, projections.png, moves.csv
  python -m rpe.tools.dynamics output=<folder>                      gradients.png alone

  image      which image of the split, from 0 on (0)
  split      train, val or test (val)
  loops      how many (10)
  bandwidth  of the loops (the run's)
  animation  false leaves sphere.gif out (true)
  output     a folder (<run>/dynamics)
"""

COLUMNS = 6
"""Iterates that stand beside each other in a picture."""

SEEDS = [1, 2]
"""Of the random projections."""

OUTLIER, MEMBERS, BANDWIDTH, MARGIN = 11.0, 20, 0.2, 0.5
"""Of the circle: an outlier that arrives at the wrong group between the fifth loop and the seventh, so that both sides of the story are seen."""


def main(arguments: list[str]) -> None:
    """Draw all of it.

    Raises:
        UserError: neither a run nor an output is named, the run groups nothing, or there is no such image.
    """
    values = read_arguments(arguments, DEFAULTS, USAGE)
    check_count("loops", values["loops"], 1, "it is how often the points are moved")
    if values["bandwidth"] is not None:
        check_bandwidth(values["bandwidth"])
    if not isinstance(values["animation"], bool):
        raise UserError(f"animation {values['animation']} is neither true nor false")
    if values["run"] is None and values["output"] is None:
        raise UserError(
            "run and output are missing: name a run folder, run=outputs/digits/<time>, or an output for the circle alone"
        )
    folder = Path(values["output"] or Path(values["run"]) / "dynamics")
    draw = None if values["run"] is None else prepared(values)
    folder.mkdir(parents=True, exist_ok=True)
    draw_gradients(OUTLIER, MEMBERS, BANDWIDTH, MARGIN, folder / "gradients.png")
    if draw is not None:
        draw_image(*draw, folder, values["animation"])
    print(f"all of it: {folder}")


def prepared(values: dict[str, Any]) -> tuple[dict[str, Motion], Any, Any]:
    """The pixels of the image under both kinds of loops, the image, and its true objects.

    Raises:
        UserError: the run groups no objects, or there is no such image.
    """
    trained = load_run(values["run"])
    model = getattr(trained.task, "model", None)
    if not isinstance(model, PixelEmbedding):
        raise UserError(f"run {values['run']} detects boundaries: name one that groups pixels into objects")
    dataset = build_data(trained.config).dataset(str(values["split"]))
    assert isinstance(dataset, SplitDataset)
    check_count(
        "image", values["image"], 0, f"it is one of the {len(dataset)} images of the split, counted from 0"
    )
    if values["image"] >= len(dataset):
        raise UserError(
            f"image {values['image']} is too large: {values['split']} has {len(dataset)} images, counted from 0"
        )
    batch = collate([dataset[values["image"]]])
    with torch.no_grad():
        points, size = embedded_pixels(model.embed(batch.images), batch.labels)
        own = float(model.grouping.concentration)
        kappa = own if values["bandwidth"] is None else concentration_of_bandwidth(values["bandwidth"])
        loops, step = values["loops"], model.grouping.step
        runs = {
            "blurring": mean_shift(points, kappa, loops, step=step),
            "non-blurring": nonblurring_mean_shift(points, kappa, loops, step=step),
        }
    labels = torch.nn.functional.interpolate(batch.labels[:, None].double(), size=size, mode="nearest")[
        0, 0
    ].long()
    motions = {
        name: Motion([iterate[0] for iterate in iterates], labels.flatten(), size)
        for name, iterates in runs.items()
    }
    return motions, batch.images[0].permute(1, 2, 0).numpy(), colours_of(labels.numpy())


def draw_image(motions: dict[str, Motion], image: Any, truth: Any, folder: Path, animation: bool) -> None:
    """All pictures of one image, and its moves as a table."""
    motion = motions["blurring"]
    loops = spread_loops(len(motion.iterates) - 1, COLUMNS)
    table = moves_table(motions)
    write_whole(folder / "moves.csv", table)
    print(table, end="")
    draw_sphere(motion, loops, folder / "sphere.png")
    draw_comparison(motions, loops, image, truth, folder / "comparison.png")
    draw_projections(motion, loops, image, truth, SEEDS, folder / "projections.png")
    if animation:
        animate_sphere(motion, truth, folder / "sphere.gif")


if __name__ == "__main__":
    command(main)
