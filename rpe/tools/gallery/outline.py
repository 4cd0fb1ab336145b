"""Trace the outlines of a label map's objects, which a page draws over the image."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import find_objects
from skimage.measure import approximate_polygon, find_contours

MAX_OUTLINES = 400
"""Objects outlined in one image, the largest: more could not be distinguished, and the page would be slow."""

OUTLINE_TOLERANCE = 0.6
"""Pixels by which an outline may leave its mask's border."""


@dataclass
class Outline:
    """The outline of one object.

    Args:
        label: the object's label.
        path: an SVG path in pixels of the label map, holes included.
        words: the text with area and score.
        hue: the colour in degrees.
    """

    label: int
    path: str
    words: str
    hue: int


@dataclass
class GalleryImage:
    """One image of the page.

    Args:
        name: the image's name.
        size: (height, width) of the outlines' coordinates.
        panels: titles and pictures as data URLs; the outlines lie over each.
        objects: the outlines.
        note: a line below the name.
    """

    name: str
    size: tuple[int, int]
    panels: list[tuple[str, str]]
    objects: list[Outline] = field(default_factory=list)
    note: str = ""


@dataclass
class ImageCounts:
    """One image of an evaluation's images.csv.

    Args:
        image_id: the image's id.
        file_name: the image's file name.
        counts: the columns that the page shows.
    """

    image_id: int
    file_name: str
    counts: dict[str, int]

    def words(self) -> str:
        """Return the counts as text."""
        return "evaluation: " + ", ".join(f"{number} {name}" for name, number in self.counts.items())


def trace_outlines(
    labels: Integer[np.ndarray, "height width"], scores: dict[int, float], areas: dict[int, int]
) -> list[Outline]:
    """Return the outline of each object, the largest first, so that small ones lie on top.

    Args:
        labels: 0 is background, negative values are void.
        scores: by label; may lack some.
        areas: in pixels of the original, by label; a missing one is counted here.
    """
    boxes = find_objects(np.maximum(labels, 0))
    counts = np.bincount(np.maximum(labels, 0).ravel(), minlength=len(boxes) + 1)
    present = sorted(
        (label for label, box in enumerate(boxes, start=1) if box is not None),
        key=lambda label: -counts[label],
    )
    found = []
    for label in present[:MAX_OUTLINES]:
        rows, columns = boxes[label - 1]
        # a border of background closes the outlines
        mask = np.pad(labels[rows, columns] == label, 1)
        rings = [
            approximate_polygon(ring, OUTLINE_TOLERANCE) for ring in find_contours(mask.astype(float), 0.5)
        ]
        path = "".join(ring_path(np.add(ring, (rows.start - 0.5, columns.start - 0.5))) for ring in rings)
        score = f", score {scores[label]:.3f}" if label in scores else ""
        found.append(
            Outline(
                label,
                path,
                f"object {label}: area {areas.get(label, int(counts[label])):,} px{score}",
                choose_hue(label),
            )
        )
    return found


def ring_path(ring: np.ndarray) -> str:
    """Return (row, column) corners as part of an SVG path."""
    return "M" + "L".join(f"{column:g} {row:g}" for row, column in ring[:-1]) + "Z"


def choose_hue(label: int) -> int:
    """Return a hue in degrees: steps of the golden ratio round the colour circle, as in the pictures."""
    return round(360 * (label * 0.61803398875 % 1))
