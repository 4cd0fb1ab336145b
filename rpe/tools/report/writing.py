"""`python -m rpe.tools.report sweep=<folder>`: a sweep as tables, plots and one page; also of a sweep that is still running."""

import math
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rpe.errors import UserError
from rpe.run_files import write_whole
from rpe.tools.command import read_arguments
from rpe.tools.page import embedded, embedded_file, render
from rpe.tools.report.axis_picture import along_axis, heat_map, training_curves
from rpe.tools.report.comparison import (
    LOWER_IS_BETTER,
    Comparison,
    Setting,
    as_csv,
    compare,
    repeat_command,
    shown,
    spread,
)
from rpe.tools.report.points import BROKEN, FAILED, FINISHED, PENDING, RUNNING, Point, read_sweep

USAGE = """
Compare the points of a sweep: report.md, report.csv, report.html and report/*.png in its folder.

  python -m rpe.tools.report sweep=outputs/digits/sweep/margin               by the figure that the task chooses its checkpoint by
  python -m rpe.tools.report sweep=outputs/digits/sweep/margin figure=AP50   by another

The sweep may be running; any folder of run folders will do.
"""

MOST_PICTURES, EACH = 40, 3
"""Pictures in the page, in all and of one setting: it stays below some 10 MB."""

PICTURE_WIDTH, PAGE_BYTES = 1100, 7_000_000


def main(arguments: list[str]) -> int:
    """Write the report; returns 0.

    Raises:
        UserError: no sweep there, or no such figure.
    """
    options = read_arguments(arguments, {"sweep": None, "figure": None}, USAGE)
    if options["sweep"] is None:
        raise UserError(
            "sweep is missing: name the folder that train.py -m wrote, sweep=outputs/digits/sweep/margin"
        )
    folder = Path(str(options["sweep"]))
    comparison = compare(read_sweep(folder), options["figure"])
    plots, curves = draw_plots(comparison, folder / "report"), training_curves(comparison)
    if curves is not None:
        write_whole(folder / "report" / "training.png", curves)
    pictures, left_out = chosen_pictures(comparison)
    header, rows = table_of(comparison)
    lists = lists_of(comparison)
    write_whole(folder / "report.csv", as_csv(comparison))
    write_whole(
        folder / "report.md", as_markdown(comparison, header, rows, lists, [name for name, _ in plots])
    )
    page = render(
        "report.html",
        title=f"Sweep {folder.resolve().name}",
        summary=summary(comparison),
        figure=comparison.figure,
        best=best_line(comparison),
        command=repeat_command(comparison),
        header=header,
        rows=[
            {"cells": cells, "best": setting is comparison.best}
            for setting, cells in zip(comparison.settings, rows, strict=True)
        ],
        plots=[(name, embedded(plot)) for name, plot in plots],
        curves=embedded(curves) if curves is not None else None,
        lists=lists,
        pictures=pictures,
        left_out=left_out,
        commands=comparison.sweep.commands,
    )
    write_whole(folder / "report.html", page)
    print_report(comparison, header, rows)
    return 0


def draw_plots(comparison: Comparison, folder: Path) -> list[tuple[str, bytes]]:
    """A plot per axis, and the heat map where there are two; each also as a file."""
    folder.mkdir(exist_ok=True)
    plots = (
        [(axis, along_axis(comparison, axis)) for axis in comparison.axes]
        if comparison.best is not None
        else []
    )
    if len(comparison.axes) >= 2 and comparison.best is not None:
        across, down, *others = comparison.axes
        plots.append(
            (
                f"{across} x {down}" + (f", mean over {', '.join(others)}" if others else ""),
                heat_map(comparison),
            )
        )
    for (_, plot), file in zip(
        plots, [*(axis.replace("/", "_") for axis in comparison.axes), "heat-map"], strict=False
    ):
        write_whole(folder / f"{file}.png", plot)
    return plots


def table_of(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The header, and a row per setting."""
    header = [*comparison.axes, *comparison.figures, "seconds", "n"]
    return header, [row_of(setting, comparison) for setting in comparison.settings]


def row_of(setting: Setting, comparison: Comparison) -> list[str]:
    """Values, mean ± spread of the main figures, seconds, and how many seeds are finished."""
    cells = [shown(value) for value in setting.values.values()]
    cells += [mean_and_spread(setting.figure(name)) for name in comparison.figures]
    seconds = spread(setting.figure("seconds"))[0]
    finished = sum(point.state == FINISHED for point in setting.points)
    return [*cells, "" if math.isnan(seconds) else f"{seconds:.0f}", f"{finished}/{len(setting.points)}"]


def mean_and_spread(values: list[float]) -> str:
    """`0.763 ± 0.004`; the mean alone of one value, nothing of none."""
    mean, deviation = spread(values)
    return (
        ""
        if math.isnan(mean)
        else f"{mean:.3f}"
        if math.isnan(deviation)
        else f"{mean:.3f} ± {deviation:.3f}"
    )


def lists_of(comparison: Comparison) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is not in the table, and why; empty lists are left out."""
    sweep = comparison.sweep

    def of(state: str) -> list[tuple[str, str]]:
        return [(point.name, point.reason) for point in sweep.points if point.state == state]

    broken = [(sweep.folder.name, fault) for fault in sweep.faults]
    broken += [(point.name, "; ".join(point.faults)) for point in sweep.points if point.faults]
    lists = [
        ("Failed", of(FAILED)),
        ("Broken files", broken),
        ("Running or killed", of(RUNNING)),
        ("Pending", of(PENDING)),
    ]
    return [(title, entries) for title, entries in lists if entries]


def summary(comparison: Comparison) -> str:
    """How many points are in which state."""
    counts = Counter(point.state for point in comparison.sweep.points)
    states = [
        f"{counts[state]} {state}" for state in (FINISHED, FAILED, BROKEN, RUNNING, PENDING) if counts[state]
    ]
    return f"{len(comparison.sweep.points)} points: {', '.join(states)}."


def best_line(comparison: Comparison) -> str:
    """The best setting with its figure; empty where nothing has finished."""
    if comparison.best is None:
        return ""
    return f"{comparison.best.name}: {mean_and_spread(comparison.best.figure(comparison.figure))}"


def as_markdown(
    comparison: Comparison,
    header: list[str],
    rows: list[list[str]],
    lists: list[tuple[str, list[tuple[str, str]]]],
    plots: list[str],
) -> str:
    """The report as Markdown, with the plots as files beside it."""
    lines = [f"# Sweep {comparison.sweep.folder.resolve().name}", "", summary(comparison), ""]
    if comparison.best is not None:
        lines += [
            f"Best by {comparison.figure}: {best_line(comparison)}",
            "",
            f"    {repeat_command(comparison)}",
            "",
        ]
    lines += ["Mean over seeds ± standard deviation; n is the number of finished seeds.", ""]
    lines += [
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
        for row in (header, ["---"] * len(header), *rows)
    ]
    files = [*(axis.replace("/", "_") for axis in comparison.axes), "heat-map"]
    lines += ["", *(f"![{name}](report/{file}.png)" for name, file in zip(plots, files, strict=False))]
    for title, entries in lists:
        lines += [
            "",
            f"## {title} ({len(entries)})",
            "",
            *(f"- {name}{f': {reason}' if reason else ''}" for name, reason in entries),
        ]
    if comparison.sweep.commands:
        lines += ["", "## Commands of this sweep", "", *(f"    {line}" for line in comparison.sweep.commands)]
    return "\n".join(lines) + "\n"


def chosen_pictures(comparison: Comparison) -> tuple[list[tuple[str, list[str]]], int]:
    """A few pictures of one seed of each setting, the best settings first, until the page has enough; and how many settings were left out.

    A picture that cannot be read becomes a fault of its point.
    """
    sign = 1 if comparison.figure.startswith(LOWER_IS_BETTER) else -1

    def rank(setting: Setting) -> float:
        mean = spread(setting.figure(comparison.figure))[0]
        return math.inf if math.isnan(mean) else sign * mean

    drawn = [
        (setting, point)
        for setting in sorted(comparison.settings, key=rank)
        if (point := pictured(setting)) is not None
    ]
    each = max(1, min(EACH, MOST_PICTURES // max(1, len(drawn))))
    shown_pictures: list[tuple[str, list[str]]] = []
    total = 0
    for setting, point in drawn[:MOST_PICTURES]:
        files = []
        for file in point.pictures[:each]:
            picture = embedded_file(file, PICTURE_WIDTH)
            if picture is None:
                point.faults.append(f"pictures/{file.name} cannot be read")
            elif total + len(picture) <= PAGE_BYTES:
                files.append(picture)
                total += len(picture)
        if files:
            shown_pictures.append((setting.name, files))
    return shown_pictures, len(drawn) - len(shown_pictures)


def pictured(setting: Setting) -> Point | None:
    """The first of its points that has pictures."""
    return next((point for point in setting.points if point.pictures), None)


def print_report(comparison: Comparison, header: list[str], rows: list[list[str]]) -> None:
    """The first lines of the table with the figure alone, the best, and where all of it is."""
    console = Console()
    short = [*range(len(comparison.axes) + 1), len(header) - 2, len(header) - 1]
    table = Table(*(header[column] for column in short), title=summary(comparison))
    for row in rows[:20]:
        table.add_row(*(row[column] for column in short))
    console.print(table)
    if len(rows) > 20:
        console.print(f"and {len(rows) - 20} more settings")
    if comparison.best is not None:
        console.print(
            f"best by {comparison.figure}: {best_line(comparison)}", soft_wrap=True, highlight=False
        )
        console.print(repeat_command(comparison), soft_wrap=True, highlight=False, markup=False)
    folder = comparison.sweep.folder
    console.print(
        f"written: {', '.join(f'{folder}/report.{kind}' for kind in ('md', 'csv', 'html'))}, {folder}/report/",
        soft_wrap=True,
        highlight=False,
    )
