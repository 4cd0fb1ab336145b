"""Label maps as outlines that a page can draw over an image, each object with its number, area and score."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import find_objects
from skimage.measure import approximate_polygon, find_contours

MOST_OBJECTS = 400
"""Outlined in one image, the largest: more could not be told apart, and the page would be slow."""

TOLERANCE = 0.6
"""Pixels by which an outline may pass its mask's border."""


@dataclass
class Outline:
    """One object: `path` is an SVG path in pixels of the label map, holes included; `words` tell area and score."""

    label: int
    path: str
    words: str
    hue: int


@dataclass
class Shown:
    """One image of the page.

    Args:
        name: of the image.
        size: (height, width) of what the outlines are measured in.
        panels: titles, and pictures as a page holds them; the outlines lie over each.
        objects: to be marked.
        note: what else is to be said.
    """

    name: str
    size: tuple[int, int]
    panels: list[tuple[str, str]]
    objects: list[Outline] = field(default_factory=list)
    note: str = ""


@dataclass
class ImageRow:
    """One image of an evaluation's images.csv; `counts` are the columns that a page tells."""

    image_id: int
    file_name: str
    counts: dict[str, int]

    def words(self) -> str:
        """Return what the evaluation counted."""
        return "evaluation: " + ", ".join(f"{number} {name}" for name, number in self.counts.items())


def outlines(
    labels: Integer[np.ndarray, "height width"], scores: dict[int, float], areas: dict[int, int]
) -> list[Outline]:
    """The outline of each object, the largest first, so that small ones lie above and can be pointed at.

    Args:
        labels: 0 is the background, below it void.
        scores: by label; may miss some.
        areas: in pixels of the original, by label; counted here where one is missing.
    """
    boxes = find_objects(np.maximum(labels, 0))
    counts = np.bincount(np.maximum(labels, 0).ravel(), minlength=len(boxes) + 1)
    present = sorted(
        (label for label, box in enumerate(boxes, start=1) if box is not None),
        key=lambda label: -counts[label],
    )
    found = []
    for label in present[:MOST_OBJECTS]:
        rows, columns = boxes[label - 1]
        # a border of background, so that outlines close
        mask = np.pad(labels[rows, columns] == label, 1)
        rings = [approximate_polygon(ring, TOLERANCE) for ring in find_contours(mask.astype(float), 0.5)]
        path = "".join(ring_path(np.add(ring, (rows.start - 0.5, columns.start - 0.5))) for ring in rings)
        score = f", score {scores[label]:.3f}" if label in scores else ""
        found.append(
            Outline(
                label,
                path,
                f"object {label}: area {areas.get(label, int(counts[label])):,} px{score}",
                hue_of(label),
            )
        )
    return found


def ring_path(ring: np.ndarray) -> str:
    """(row, column) corners as part of an SVG path."""
    return "M" + "L".join(f"{column:g} {row:g}" for row, column in ring[:-1]) + "Z"


def hue_of(label: int) -> int:
    """Degrees: steps of the golden ratio round the colour circle, as the pictures' colours."""
    return round(360 * (label * 0.61803398875 % 1))
