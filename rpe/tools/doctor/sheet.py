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
from rpe.tools.doctor.image import sample_indices

MAX_PANELS = 12
PANEL_COLUMNS = 3
BOUNDARY_COLOUR = (255, 220, 0)


def draw_sample(sample: Any) -> UInt8[np.ndarray, "height both 3"]:
    """Return image and masks side by side, void in grey."""
    image = np.rint(255 * sample.image.permute(1, 2, 0).numpy()).astype(np.uint8)
    labels = sample.labels.numpy()
    if isinstance(sample, BoundarySample):
        masked = image // 2
        masked[labels == 1] = BOUNDARY_COLOUR
    else:
        masked = overlay(image, labels.astype(np.int32))
    masked[labels == VOID] = masked[labels == VOID] // 2 + 64
    return np.concatenate(
        [image, np.full((len(image), max(2, image.shape[1] // 40), 3), 255, np.uint8), masked], axis=1
    )


def describe_labels(sample: Any) -> str:
    """Return the number of objects of a sample, or its share of boundary pixels."""
    if isinstance(sample, BoundarySample):
        return f"{float((sample.labels == 1).float().mean()):.1%} boundary"
    count = int(sample.labels.max().clamp(min=0))
    return f"{count} object{'s' * (count != 1)}"


def draw_contact_sheet(dataset: Any, names: list[str], file: Path) -> None:
    """Write the contact sheet of a split, its images evenly spaced."""
    figure = Figure(figsize=(15, 11), layout="constrained")
    for axis in (axes := figure.subplots(-(-MAX_PANELS // PANEL_COLUMNS), PANEL_COLUMNS).ravel()):
        axis.axis("off")
    for axis, place in zip(axes, sample_indices(len(dataset), MAX_PANELS), strict=False):
        try:
            sample = dataset[place]
        except UserError:
            axis.set_title(f"{names[place]}: refused", fontsize=9)
            continue
        axis.imshow(draw_sample(sample), interpolation="nearest")
        void = float((sample.labels == VOID).float().mean())
        axis.set_title(
            f"{names[place][-40:]}: {describe_labels(sample)}" + (f", {void:.0%} void" if void else ""),
            fontsize=9,
        )
    image = io.BytesIO()
    figure.savefig(image, dpi=100, format="png")
    write_whole(file, image.getvalue())
