"""Draw recall curves."""

from pathlib import Path

from matplotlib.figure import Figure

from rpe.metric.curve import RecallCurve


def draw_recall(
    against_overlap: list[RecallCurve],
    against_number: list[RecallCurve],
    published: list[RecallCurve],
    protocol: str,
    file: Path,
) -> None:
    """Draw recall against the IoU threshold, and average recall against the number of masks per image.

    Published results are hollow marks without a line.
    """
    figure = Figure(figsize=(11, 4.2))
    left, right = figure.subplots(
        1, 2, gridspec_kw={"left": 0.06, "right": 0.99, "bottom": 0.12, "top": 0.97, "wspace": 0.16}
    )
    for curve in against_overlap:
        left.plot(curve.x, curve.y, label=curve.name)
    for curve in against_number:
        right.plot(curve.x, curve.y, marker=".", label=curve.name)
    for index, curve in enumerate(published):
        right.plot(
            curve.x,
            curve.y,
            linestyle="none",
            marker="osD^v<>"[index % 7],
            markerfacecolor="none",
            color="grey",
            label=curve.name,
        )
    left.set(xlabel="IoU", ylabel="recall", xlim=(0.5, 1), ylim=(0, 1))
    right.set(xlabel="masks per image", ylabel=f"{protocol}: average recall", xscale="log", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)
