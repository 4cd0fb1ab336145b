"""Draw the reliability of scores."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rpe.metric.calibration import Reliability


def draw_reliability(bins: Reliability, file: Path) -> None:
    """Draw the mean IoU against the mean score of each bin, above the number of masks in it.

    Points below the diagonal are masks whose scores are too high.
    """
    figure = Figure(figsize=(4.6, 5.4))
    upper, lower = figure.subplots(
        2,
        1,
        sharex=True,
        height_ratios=[3, 1],
        gridspec_kw={"left": 0.14, "right": 0.97, "bottom": 0.09, "top": 0.94, "hspace": 0.06},
    )
    low, high = bins.edges[0], bins.edges[-1]
    filled = bins.masks > 0
    upper.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--", label="score = IoU")
    upper.plot(bins.score[filled], bins.iou[filled], marker="o", label="masks")
    error = bins.calibration_error()
    title = "scores are not in [0, 1]" if error is None else f"expected calibration error {error:.3f}"
    upper.set(xlim=(low, high), ylim=(0, 1), ylabel="mean IoU", title=title)
    upper.legend(fontsize=8, loc="upper left")
    upper.grid(alpha=0.3)
    lower.bar(
        bins.edges[:-1], np.maximum(bins.masks, 0), width=np.diff(bins.edges), align="edge", edgecolor="white"
    )
    lower.set(xlabel="score", ylabel="masks", yscale="symlog")
    figure.savefig(file, dpi=110)
