"""Draw a sweep: a metric along each axis, a heat map over two axes, and training curves."""

import io
import itertools
import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rpe.tools.report.comparison import Comparison, SweepSetting, format_override, is_numeric, spread

MOST_LINES = 10
"""With more lines, all are pale and without a legend, under their mean."""

WIDE = 10
"""Ratio of largest to smallest value from which a numeric axis is logarithmic."""

matplotlib.use("Agg")


def encode_figure(figure: Figure) -> bytes:
    """Return the figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=120)
    return stream.getvalue()


def draw_axis(comparison: Comparison, axis: str) -> bytes:
    """Draw mean and spread of the metric along one axis, a line for each combination of the others."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    drawn = figure.subplots()
    lines: dict[str, list[SweepSetting]] = {}
    for setting in comparison.settings:
        others = ", ".join(
            f"{key}={format_override(value)}" for key, value in setting.values.items() if key != axis
        )
        lines.setdefault(others, []).append(setting)
    values = comparison.axes[axis]
    numeric = all(is_numeric(value) for value in values)
    places = {repr(value): float(value) if numeric else float(index) for index, value in enumerate(values)}
    pale = len(lines) > MOST_LINES
    for name, settings in lines.items():
        draw_line(
            drawn,
            [
                (places[repr(setting.values[axis])], setting.metric_values(comparison.metric))
                for setting in settings
            ],
            name,
            pale,
        )
    if pale:
        groups = [
            [
                v
                for s in comparison.settings
                if repr(s.values[axis]) == repr(value)
                for v in s.metric_values(comparison.metric)
            ]
            for value in values
        ]
        draw_line(
            drawn,
            list(zip(places.values(), groups, strict=True)),
            f"mean of all {len(lines)} combinations",
            False,
        )
    positive = numeric and min(values) > 0
    if positive and max(values) / min(values) >= WIDE:
        drawn.set_xscale("log")
        drawn.minorticks_off()
    drawn.set_xticks(
        list(places.values()),
        [format_override(value) for value in values],
        rotation=0 if numeric or len(values) < 5 else 20,
    )
    drawn.set(xlabel=axis, ylabel=comparison.metric)
    drawn.grid(alpha=0.3)
    if len(comparison.axes) > 1:
        drawn.legend(fontsize=8, framealpha=0.7)
    return encode_figure(figure)


def draw_line(drawn: Axes, values_at: list[tuple[float, list[float]]], name: str, pale: bool) -> None:
    """Draw connected means, with bars of one standard deviation.

    Positions without a finished job are left out.
    """
    known = [(place, *spread(values)) for place, values in values_at if values]
    if not known:
        return
    places, means, deviations = zip(*known, strict=True)
    if pale:
        drawn.plot(places, means, color="0.8", linewidth=0.8, zorder=0)
        return
    bars = [0.0 if math.isnan(deviation) else deviation for deviation in deviations]
    drawn.errorbar(places, means, bars, marker="o", markersize=4, capsize=3, label=name)


def draw_heat_map(comparison: Comparison) -> bytes:
    """Draw the mean of the metric over the first two axes."""
    (across, columns), (down, rows) = list(comparison.axes.items())[:2]
    grid = np.full((len(rows), len(columns)), np.nan)
    for (row, down_value), (column, across_value) in itertools.product(enumerate(rows), enumerate(columns)):
        values = [
            value
            for setting in comparison.settings
            if repr(setting.values[down]) == repr(down_value)
            and repr(setting.values[across]) == repr(across_value)
            for value in setting.metric_values(comparison.metric)
        ]
        grid[row, column] = spread(values)[0]
    figure = Figure(
        figsize=(max(6.4, min(12, 2.2 + 0.7 * len(columns))), max(4.2, min(10, 1.4 + 0.4 * len(rows)))),
        layout="constrained",
    )
    drawn = figure.subplots()
    image = drawn.imshow(grid, aspect="auto", cmap="viridis")
    drawn.set_xticks(range(len(columns)), [format_override(value) for value in columns])
    drawn.set_yticks(range(len(rows)), [format_override(value) for value in rows])
    drawn.set(xlabel=across, ylabel=down)
    known = grid[np.isfinite(grid)]
    middle = (known.min() + known.max()) / 2 if known.size else 0.0
    for row, column in itertools.product(range(len(rows)), range(len(columns))):
        value = grid[row, column]
        text = "none" if math.isnan(value) else f"{value:.3f}"
        drawn.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=8,
            color="black" if not value < middle else "white",
        )
    if known.size:
        figure.colorbar(image, label=comparison.metric)
    return encode_figure(figure)


def draw_curves(comparison: Comparison) -> bytes | None:
    """Draw training loss and validation metric by epoch, the mean over seeds; None before the first epoch."""
    names = ["train/loss", f"val/{comparison.metric}"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    drawn = 0
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(comparison.settings)))
    for name, panel in zip(names, panels, strict=True):
        for setting, colour in zip(comparison.settings, colours, strict=True):
            by_epoch: dict[float, list[float]] = {}
            for row in (row for job in setting.jobs for row in job.epochs):
                if "epoch" in row and math.isfinite(row.get(name, math.nan)):
                    by_epoch.setdefault(row["epoch"] + 1, []).append(row[name])
            if by_epoch:
                epochs = sorted(by_epoch)
                panel.plot(
                    epochs,
                    [spread(by_epoch[epoch])[0] for epoch in epochs],
                    color=colour,
                    marker=".",
                    label=setting.name,
                )
                drawn += 1
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    if 0 < len(comparison.settings) <= 2 * MOST_LINES and panels[0].lines:
        panels[0].legend(fontsize=7, framealpha=0.7)
    return encode_figure(figure) if drawn else None
