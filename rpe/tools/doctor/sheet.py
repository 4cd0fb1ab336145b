"""Draw a contact sheet: twelve images with their masks as the network gets them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from rpe.data.bsds import BoundarySample
from rpe.overlay import overlay
from rpe.run_files import write_whole
from rpe.structures import VOID, UserError
from rpe.tools.doctor.image import drawn

SHOWN = 12
COLUMNS = 3
BOUNDARY = (255, 220, 0)


def panel(sample: Any) -> UInt8[np.ndarray, "height both 3"]:
    """Return image and masks side by side, void in grey."""
    image = np.rint(255 * sample.image.permute(1, 2, 0).numpy()).astype(np.uint8)
    labels = sample.labels.numpy()
    if isinstance(sample, BoundarySample):
        masked = image // 2
        masked[labels == 1] = BOUNDARY
    else:
        masked = overlay(image, labels.astype(np.int32))
    masked[labels == VOID] = masked[labels == VOID] // 2 + 64
    return np.concatenate(
        [image, np.full((len(image), max(2, image.shape[1] // 40), 3), 255, np.uint8), masked], axis=1
    )


def held(sample: Any) -> str:
    """Return what the labels of a sample hold."""
    if isinstance(sample, BoundarySample):
        return f"{float((sample.labels == 1).float().mean()):.1%} boundary"
    count = int(sample.labels.max().clamp(min=0))
    return f"{count} object{'s' * (count != 1)}"


def draw_sheet(dataset: Any, names: list[str], file: Path) -> None:
    """Write the sheet of a split, its images evenly drawn."""
    figure = Figure(figsize=(15, 11), layout="constrained")
    for axis in (axes := figure.subplots(-(-SHOWN // COLUMNS), COLUMNS).ravel()):
        axis.axis("off")
    for axis, place in zip(axes, drawn(len(dataset), SHOWN), strict=False):
        try:
            sample = dataset[place]
        except UserError:
            axis.set_title(f"{names[place]}: refused", fontsize=9)
            continue
        axis.imshow(panel(sample), interpolation="nearest")
        void = float((sample.labels == VOID).float().mean())
        axis.set_title(
            f"{names[place][-40:]}: {held(sample)}" + (f", {void:.0%} void" if void else ""), fontsize=9
        )
    image = io.BytesIO()
    figure.savefig(image, dpi=100, format="png")
    write_whole(file, image.getvalue())
