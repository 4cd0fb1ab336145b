"""Tabulate how many groups fit on a sphere, and which margins and dimensions follow."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from rpe.run.building import build_data
from rpe.run.composing import compose_config
from rpe.run_files import rows_to_csv, write_whole
from rpe.sphere_packing import Meeting, loss_floor, similarity_bound, smallest_margin
from rpe.structures import UserError, check_count
from rpe.tools.advice import count_groups, format_advice, format_recommendation
from rpe.tools.command import read_arguments, run_tool

USAGE = """
Tabulate how far apart n groups can be on the sphere of D dimensions: the smallest margin that they can meet,
and the loss floor below it.

  python -m rpe.tools.packing groups=2:64 dimension=2,3,8,16,64       a table, packing.csv and packing.png
  python -m rpe.tools.packing groups=2:12 dimension=3 margin=0.5      also the loss floor at a margin
  python -m rpe.tools.packing experiment=digits dimension=2,3,16  margin and bandwidth for a dataset
  python -m rpe.tools.packing experiment=coco overrides=[data.root=<folder>] dimension=32   for your own data

groups and dimension take numbers, lists 2,3,8 and ranges 2:64; starts and seed belong to the search.
output is the files' name without suffix. A margin is exact where a closed form is proven, found by a search
(a smaller one may exist), or only a lower bound (over 64 groups).
"""

DEFAULTS: dict[str, Any] = {
    "groups": "2:16",
    "dimension": "2,3,8,16",
    "margin": None,
    "experiment": None,
    "overrides": [],
    "starts": 24,
    "seed": 0,
    "output": "packing",
}


class PackingRow(NamedTuple):
    """A row of the table."""

    groups: int
    dimension: int
    margin: float
    known: str
    bound: float
    floor: float | None


def parse_numbers(key: str, value: Any) -> list[int]:
    """Return `2:64`, `2,3,8`, `[2, 3]` or a number as integers >= 1.

    Raises:
        UserError: the value is anything else.
    """
    try:
        if isinstance(value, str) and ":" in value:
            first, last = (int(part) for part in value.split(":"))
            found = list(range(first, last + 1))
        else:
            found = [
                int(part)
                for part in (
                    value.split(",")
                    if isinstance(value, str)
                    else value
                    if isinstance(value, list)
                    else [value]
                )
            ]
    except (TypeError, ValueError):
        found = []
    if not found or min(found) < 1:
        raise UserError(
            f"{key} must be integers >= 1, got {value}. Write {key}=8, {key}=2,3,8 or {key}=2:64."
        )
    return found


def compute_rows(
    groups: list[int], dimensions: list[int], margin: float | None, starts: int, seed: int
) -> Iterator[PackingRow]:
    """Yield the rows of the table, and print found margins on stderr."""
    for dimension in dimensions:
        for count in groups:
            met = smallest_margin(count, dimension, starts, seed)
            floor = (
                None
                if margin is None
                else 0.0
                if is_met(met, margin)
                else loss_floor(count, dimension, margin, starts, seed)
            )
            if met.known == "found":
                print(
                    f"{count} groups in {dimension} dimensions: {met.margin:.5f}", file=sys.stderr, flush=True
                )
            yield PackingRow(
                count, dimension, met.margin, met.known, similarity_bound(count, dimension), floor
            )


def is_met(met: Meeting, margin: float) -> bool:
    """Return whether the margin is proven to be met, so that the loss floor is 0."""
    return met.known != "bound" and met.margin <= margin


def draw_margins(table: list[PackingRow], margin: float | None, file: Path) -> None:
    """Draw the smallest margin over the number of groups, a curve for each dimension.

    Exact values are filled, found ones hollow.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axis = figure.subplots()
    for index, dimension in enumerate(sorted({row.dimension for row in table})):
        mine = [row for row in table if row.dimension == dimension]
        colour = f"C{index}"
        axis.plot(
            [row.groups for row in mine],
            [row.margin for row in mine],
            color=colour,
            linewidth=1,
            label=f"D = {dimension}",
        )
        for known, marker, face in (("exact", "o", colour), ("found", "o", "white"), ("bound", "x", colour)):
            marked = [row for row in mine if row.known == known]
            axis.plot(
                [row.groups for row in marked],
                [row.margin for row in marked],
                marker,
                color=colour,
                markerfacecolor=face,
                markersize=4,
            )
    if margin is not None:
        axis.axhline(margin, color="0.6", linewidth=0.8, linestyle="--")
    axis.set(xlabel="groups in an image", ylabel="smallest margin that they can meet", ylim=(0, 1))
    axis.set_title("filled: proven, hollow: found by search, cross: lower bound", fontsize=9)
    axis.grid(color="0.92")
    axis.legend(fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, dpi=130, format="png")
    write_whole(file, image.getvalue())


def print_table(table: list[PackingRow]) -> None:
    """Print the table."""
    shown = Table(
        "groups",
        "dimension",
        "smallest margin",
        "known",
        "lower bound",
        *(["loss floor"] if table[0].floor is not None else []),
    )
    for row in table:
        cells = [str(row.groups), str(row.dimension), f"{row.margin:.5f}", row.known, f"{row.bound:.5f}"]
        shown.add_row(*cells, *([] if row.floor is None else [f"{row.floor:.4f}"]))
    Console().print(shown)


def print_advice(experiment: str, overrides: list[str], dimensions: list[int], margin: float | None) -> None:
    """Print the advice for each dimension."""
    config = compose_config([f"experiment={experiment}", *overrides])
    groups = count_groups(build_data(config))
    for dimension in dimensions:
        chosen = config.loss.pairwise.margin if margin is None else margin
        negative_range = config.loss.pairwise.get("negative_range")
        if negative_range is None:
            print(f"D = {dimension}: {format_recommendation(groups, dimension)}")
        print(f"D = {dimension}: {format_advice(groups, dimension, float(chosen), negative_range)}")


def main(arguments: list[str]) -> None:
    """Print the table and write its files, or print the advice for an experiment.

    Raises:
        UserError: a setting is not what the command takes.
    """
    given = read_arguments(arguments, DEFAULTS, USAGE)
    dimensions, margin = parse_numbers("dimension", given["dimension"]), given["margin"]
    if margin is not None and (
        isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 1
    ):
        raise UserError(f"margin must be in [0, 1), got {margin}.")
    if given["experiment"] is not None:
        print_advice(str(given["experiment"]), [str(text) for text in given["overrides"]], dimensions, margin)
        return
    output = Path(str(given["output"] or DEFAULTS["output"]))
    if not output.absolute().parent.is_dir():
        raise UserError(f"output must be in an existing folder, got {output}. Make {output.parent} first.")
    check_count("seed", given["seed"], 0, "it starts the search")
    (starts,) = parse_numbers("starts", given["starts"])[:1]
    table = list(
        compute_rows(parse_numbers("groups", given["groups"]), dimensions, margin, starts, given["seed"])
    )
    print_table(table)
    write_whole(output.with_suffix(".csv"), rows_to_csv([PackingRow._fields, *table]))
    draw_margins(table, margin, output.with_suffix(".png"))
    print(f"written: {output.with_suffix('.csv')}, {output.with_suffix('.png')}")


if __name__ == "__main__":
    run_tool(main)
