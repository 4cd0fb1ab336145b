"""Draw class maps of an image, metrics by class, and the confusion matrix."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rpe.data.voc_mask import palette
from rpe.overlay import colours_of
from rpe.segment import select_proposals
from rpe.structures import BACKGROUND, VOID, Proposals


def class_colours(classes: Int64[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Return VOC's colour of each class; void is white, as in the devkit's pictures."""
    return np.where((classes == VOID)[..., None], np.uint8(255), palette()[classes.clip(min=BACKGROUND)])


def draw_class_sheet(
    image: Float[np.ndarray, "height width 3"],
    truth: Int64[np.ndarray, "height width"],
    found: Int64[np.ndarray, "rows columns"],
    instances: Proposals | None,
    names: list[str],
    file: Path,
) -> None:
    """Draw an image, its true and predicted class map, and its instances with their classes.

    Instances that overlap are painted as by `select_instances`.

    Args:
        truth: class map of the network's image.
        found: predicted class map of the original image.
        instances: None draws none.
        names: class names, background first.
    """
    panels = [
        ("image", image),
        ("true classes", class_colours(truth)),
        ("predicted classes", class_colours(found)),
    ]
    labels, chosen = (found, []) if instances is None else select_proposals(instances, 0.0)
    panels += [] if instances is None else [("groups and their classes", colours_of(labels))]
    present = np.union1d(truth[truth != VOID], found)
    figure = Figure(
        figsize=(2.6 * len(panels), 2.6 * image.shape[0] / image.shape[1] + 0.6), layout="constrained"
    )
    patches = [
        Patch(facecolor=palette()[number] / 255, edgecolor="grey", label=names[number])
        for number in present.tolist()
    ]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=min(11, len(patches)), fontsize=8, frameon=False
    )
    for axis, (title, panel) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    for number, index in enumerate(chosen, start=1):
        assert instances is not None and instances.classes is not None
        row, column = (float(np.median(pixels)) for pixels in np.nonzero(labels == number))
        box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8}
        axis.text(
            column, row, names[int(instances.classes[index])], fontsize=8, ha="center", va="center", bbox=box
        )
    figure.savefig(file, dpi=110)


def draw_classes(names: list[str], columns: dict[str, Float[np.ndarray, " class"]], file: Path) -> None:
    """Draw bars of each metric by class, with the number of objects behind each class name."""
    shown = {
        name: values for name, values in columns.items() if name in ("IoU", "AP", "APr50", "components-APr50")
    }
    figure = Figure(figsize=(max(5.0, 0.45 * len(names) + 2), 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / max(1, len(shown))
    for index, (name, values) in enumerate(shown.items()):
        axis.bar(
            np.arange(len(names)) + (index + 0.5) * width - 0.4, np.nan_to_num(values), width, label=name
        )
    counts = [
        name if np.isnan(count) else f"{name} ({count:.0f})"
        for name, count in zip(names, columns["objects"], strict=True)
    ]
    axis.set_xticks(range(len(names)), counts, rotation=90 if len(names) > 5 else 0, fontsize=8)
    axis.set(ylim=(0, 1))
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    figure.savefig(file, dpi=110)


def draw_confusion(confusion: Int64[np.ndarray, "truth prediction"], names: list[str], file: Path) -> None:
    """Draw the share of each true class's pixels that was predicted as each class."""
    share = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    side = max(3.5, 0.32 * len(names) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 25:
        for row, column in zip(*np.nonzero(share >= 0.005), strict=True):
            axis.text(
                column,
                row,
                f"{100 * share[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if share[row, column] > 0.5 else "black",
            )
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="predicted class", ylabel="true class")
    figure.savefig(file, dpi=110)
