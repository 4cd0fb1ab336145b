"""Write the report of a sweep, finished or running: tables, plots and one HTML page."""

import math
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rpe.errors import UserError
from rpe.run_files import write_whole
from rpe.tools.command import read_arguments, run_tool
from rpe.tools.page import embed_file, embed_picture, render
from rpe.tools.report.axis_picture import draw_axis, draw_curves, draw_heat_map
from rpe.tools.report.comparison import (
    LOWER_IS_BETTER,
    Comparison,
    SweepSetting,
    compare,
    format_csv,
    format_override,
    repeat_command,
    spread,
)
from rpe.tools.report.jobs import BROKEN, FAILED, FINISHED, PENDING, RUNNING, Job, read_sweep

USAGE = """
Compare the jobs of a sweep: report.md, report.csv, report.html and report/*.png in its folder.

  python -m rpe.tools.report sweep=outputs/digits/sweep/margin               by the best checkpoint's metric
  python -m rpe.tools.report sweep=outputs/digits/sweep/margin metric=AP50   by another metric

The sweep may be running; any folder of run folders will do.
"""

MOST_PICTURES, EACH = 40, 3
"""Pictures in the page, and of one setting: the page stays below some 10 MB."""

PICTURE_WIDTH, PAGE_BYTES = 1100, 7_000_000


def main(arguments: list[str]) -> int:
    """Write the report; return 0.

    Raises:
        UserError: the folder holds no sweep, or its jobs have no such metric.
    """
    options = read_arguments(arguments, {"sweep": None, "metric": None}, USAGE)
    if options["sweep"] is None:
        raise UserError(
            "sweep must be a folder that train.py -m wrote, got none. Add sweep=outputs/digits/sweep/margin."
        )
    folder = Path(str(options["sweep"]))
    comparison = compare(read_sweep(folder), options["metric"])
    plots, curves = draw_plots(comparison, folder / "report"), draw_curves(comparison)
    if curves is not None:
        write_whole(folder / "report" / "training.png", curves)
    pictures, left_out = choose_pictures(comparison)
    header, rows = build_table(comparison)
    lists = list_others(comparison)
    write_whole(folder / "report.csv", format_csv(comparison))
    write_whole(
        folder / "report.md", format_markdown(comparison, header, rows, lists, [name for name, _ in plots])
    )
    page = render(
        "report.html",
        title=f"Sweep {folder.resolve().name}",
        summary=summarise_states(comparison),
        metric=comparison.metric,
        best=format_best(comparison),
        command=repeat_command(comparison),
        header=header,
        rows=[
            {"cells": cells, "best": setting is comparison.best}
            for setting, cells in zip(comparison.settings, rows, strict=True)
        ],
        plots=[(name, embed_picture(plot)) for name, plot in plots],
        curves=embed_picture(curves) if curves is not None else None,
        lists=lists,
        pictures=pictures,
        left_out=left_out,
        commands=comparison.sweep.commands,
    )
    write_whole(folder / "report.html", page)
    print_report(comparison, header, rows)
    return 0


def draw_plots(comparison: Comparison, folder: Path) -> list[tuple[str, bytes]]:
    """Draw a plot for each axis, and a heat map of two; return them and write them as files."""
    folder.mkdir(exist_ok=True)
    plots = (
        [(axis, draw_axis(comparison, axis)) for axis in comparison.axes]
        if comparison.best is not None
        else []
    )
    if len(comparison.axes) >= 2 and comparison.best is not None:
        across, down, *others = comparison.axes
        plots.append(
            (
                f"{across} x {down}" + (f", mean over {', '.join(others)}" if others else ""),
                draw_heat_map(comparison),
            )
        )
    for (_, plot), file in zip(
        plots, [*(axis.replace("/", "_") for axis in comparison.axes), "heat-map"], strict=False
    ):
        write_whole(folder / f"{file}.png", plot)
    return plots


def build_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the header, and a row for each setting."""
    header = [*comparison.axes, *comparison.metrics, "seconds", "n"]
    return header, [build_row(setting, comparison) for setting in comparison.settings]


def build_row(setting: SweepSetting, comparison: Comparison) -> list[str]:
    """Return the cells of a setting.

    They are its values, mean and spread of the main metrics, seconds, and the number of finished seeds.
    """
    cells = [format_override(value) for value in setting.values.values()]
    cells += [mean_and_spread(setting.metric_values(name)) for name in comparison.metrics]
    seconds = spread(setting.metric_values("seconds"))[0]
    finished = sum(job.state == FINISHED for job in setting.jobs)
    return [*cells, "" if math.isnan(seconds) else f"{seconds:.0f}", f"{finished}/{len(setting.jobs)}"]


def mean_and_spread(values: list[float]) -> str:
    """Return `0.763 ± 0.004`; only the mean of one value, an empty string of none."""
    mean, deviation = spread(values)
    return (
        ""
        if math.isnan(mean)
        else f"{mean:.3f}"
        if math.isnan(deviation)
        else f"{mean:.3f} ± {deviation:.3f}"
    )


def list_others(comparison: Comparison) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the jobs that are not in the table with their reasons; empty lists are left out."""
    sweep = comparison.sweep

    def of(state: str) -> list[tuple[str, str]]:
        return [(job.name, job.reason) for job in sweep.jobs if job.state == state]

    broken = [(sweep.folder.name, fault) for fault in sweep.faults]
    broken += [(job.name, "; ".join(job.faults)) for job in sweep.jobs if job.faults]
    lists = [
        ("Failed", of(FAILED)),
        ("Broken files", broken),
        ("Running or killed", of(RUNNING)),
        ("Pending", of(PENDING)),
    ]
    return [(title, entries) for title, entries in lists if entries]


def summarise_states(comparison: Comparison) -> str:
    """Return how many jobs are in each state."""
    counts = Counter(job.state for job in comparison.sweep.jobs)
    states = [
        f"{counts[state]} {state}" for state in (FINISHED, FAILED, BROKEN, RUNNING, PENDING) if counts[state]
    ]
    return f"{len(comparison.sweep.jobs)} jobs: {', '.join(states)}."


def format_best(comparison: Comparison) -> str:
    """Return the best setting with its metric; empty where no job has finished."""
    if comparison.best is None:
        return ""
    return f"{comparison.best.name}: {mean_and_spread(comparison.best.metric_values(comparison.metric))}"


def format_markdown(
    comparison: Comparison,
    header: list[str],
    rows: list[list[str]],
    lists: list[tuple[str, list[tuple[str, str]]]],
    plots: list[str],
) -> str:
    """Return the report as Markdown, with the plots as files beside it."""
    lines = [f"# Sweep {comparison.sweep.folder.resolve().name}", "", summarise_states(comparison), ""]
    if comparison.best is not None:
        lines += [
            f"Best by {comparison.metric}: {format_best(comparison)}",
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


def choose_pictures(comparison: Comparison) -> tuple[list[tuple[str, list[str]]], int]:
    """Choose a few pictures of one seed of each setting, the best settings first, until the page is full.

    The number of settings left out is returned too. A picture that cannot be read becomes a fault of its job.
    """
    sign = 1 if comparison.metric.startswith(LOWER_IS_BETTER) else -1

    def rank(setting: SweepSetting) -> float:
        mean = spread(setting.metric_values(comparison.metric))[0]
        return math.inf if math.isnan(mean) else sign * mean

    drawn = [
        (setting, job)
        for setting in sorted(comparison.settings, key=rank)
        if (job := find_pictured(setting)) is not None
    ]
    each = max(1, min(EACH, MOST_PICTURES // max(1, len(drawn))))
    shown_pictures: list[tuple[str, list[str]]] = []
    total = 0
    for setting, job in drawn[:MOST_PICTURES]:
        files = []
        for file in job.pictures[:each]:
            picture = embed_file(file, PICTURE_WIDTH)
            if picture is None:
                job.faults.append(f"pictures/{file.name} cannot be read")
            elif total + len(picture) <= PAGE_BYTES:
                files.append(picture)
                total += len(picture)
        if files:
            shown_pictures.append((setting.name, files))
    return shown_pictures, len(drawn) - len(shown_pictures)


def find_pictured(setting: SweepSetting) -> Job | None:
    """Return the setting's first job with pictures."""
    return next((job for job in setting.jobs if job.pictures), None)


def print_report(comparison: Comparison, header: list[str], rows: list[list[str]]) -> None:
    """Print the first rows of the table with one metric, the best setting, and the files."""
    console = Console()
    short = [*range(len(comparison.axes) + 1), len(header) - 2, len(header) - 1]
    table = Table(*(header[column] for column in short), title=summarise_states(comparison))
    for row in rows[:20]:
        table.add_row(*(row[column] for column in short))
    console.print(table)
    if len(rows) > 20:
        console.print(f"and {len(rows) - 20} more settings")
    if comparison.best is not None:
        console.print(
            f"best by {comparison.metric}: {format_best(comparison)}", soft_wrap=True, highlight=False
        )
        console.print(repeat_command(comparison), soft_wrap=True, highlight=False, markup=False)
    folder = comparison.sweep.folder
    console.print(
        f"written: {', '.join(f'{folder}/report{end}' for end in ('.md', '.csv', '.html', '/'))}",
        soft_wrap=True,
        highlight=False,
    )


if __name__ == "__main__":
    run_tool(main)
