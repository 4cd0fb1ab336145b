"""Draw precision against recall, with lines of equal F and published results."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PUBLISHED = {
    "human": 0.803,
    "Canny": 0.611,
    "mean shift (EDISON)": 0.598,
    "gPb-UCM": 0.729,
    "HED": 0.788,
    "PiDiNet tiny-L": 0.787,
    "PiDiNet": 0.807,
    "XYW-Net": 0.812,
    "PDUF": 0.818,
    "EDTER + VOC, multi-scale": 0.848,
}
"""Published ODS on BSDS500's test images. Training data and evaluators differ, so they are context only."""

F_LINES = np.arange(1, 10) / 10
"""F measures of the drawn lines."""

RecallPrecision = tuple[Float[np.ndarray, " threshold"], Float[np.ndarray, " threshold"]]


def precision_at(recall: Float[np.ndarray, " point"], score: float) -> Float[np.ndarray, " point"]:
    """Return the precision that gives the F measure `score` at `recall`; NaN if it would exceed 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = score * recall / (2 * recall - score)
    return np.where((2 * recall > score) & (precision <= 1), precision, np.nan)


def draw_f_lines(axis: Axes) -> None:
    """Draw lines of equal F, labelled at the right edge."""
    recall = np.linspace(0.001, 1, 1000)
    for score in F_LINES:
        axis.plot(recall, precision_at(recall, score), color="0.85", linewidth=0.7, zorder=0)
        axis.text(
            1.01,
            float(precision_at(np.ones(1), score)[0]),
            f"{score:.1f}",
            fontsize=6,
            color="0.6",
            va="center",
        )


def draw_curve(
    curves: dict[str, RecallPrecision], best: dict[str, float], published: dict[str, float], file: Path
) -> None:
    """Draw each named curve of (recall, precision), with its `best` F in the legend.

    Published results have only an F. Their marks lie on its line, where precision equals recall. Thresholds
    without a predicted pixel are left out.
    """
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axis = figure.subplots()
    draw_f_lines(axis)
    for name, (recall, precision) in curves.items():
        drawn = precision > 0
        axis.plot(recall[drawn], precision[drawn], linewidth=1.8, label=f"{name}, ODS {best[name]:.3f}")
    for index, (name, score) in enumerate(published.items()):
        axis.plot(
            score,
            score,
            marker="o^sDvP*X<>"[index % 10],
            color=f"C{(len(curves) + index) % 10}",
            linestyle="",
            label=f"{name}, published F {score:.3f}",
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", aspect="equal")
    axis.legend(fontsize=7, loc="lower left", framealpha=0.9, edgecolor="none")
    figure.savefig(file, dpi=140)
