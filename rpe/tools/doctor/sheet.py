"""Draw a contact sheet: twelve images with their masks as the network gets them."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rpe.data.bsds import BoundarySample
from rpe.overlay import overlay
from rpe.picture.panels import draw_panels
from rpe.structures import VOID, UserError
from rpe.tools.doctor.image import sample_indices

MAX_PANELS = 12
PANEL_COLUMNS, PANEL_WIDTH = 3, 492
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
    panels: list[tuple[str, np.ndarray]] = []
    for place in sample_indices(len(dataset), MAX_PANELS):
        name = names[place][-40:]
        try:
            sample = dataset[place]
        except UserError:
            panels.append((f"{name}: refused", np.full((1, 2), 255, np.uint8)))
            continue
        void = float((sample.labels == VOID).float().mean())
        title = f"{name}: {describe_labels(sample)}" + (f", {void:.0%} void" if void else "")
        panels.append((title, draw_sample(sample)))
    draw_panels(panels, PANEL_COLUMNS, PANEL_WIDTH, file)
