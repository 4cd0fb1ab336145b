"""Draw objects or boundaries in colour over their image, a few rows at a time, as images may be large; encode
PNG."""

import io

import numpy as np
from jaxtyping import Float, Int32, Integer, UInt8
from PIL import Image

from rpe.structures import BACKGROUND, VOID

ROWS_AT_ONCE = 256
"""Rows drawn at a time, to bound the memory."""

TINT = 0.4
"""Share of the object's colour in its pixels; its border has the full colour."""


def colours_of(labels: Integer[np.ndarray, "height width"]) -> Float[np.ndarray, "height width 3"]:
    """Return a fixed distinct colour for each object; background black, void grey."""
    # steps of the golden ratio around the colour circle never come close to an earlier hue
    hue = (labels * 0.61803398875) % 1
    wheel = np.abs((hue[..., None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    colour = 0.25 + 0.75 * wheel.clip(0, 1)
    colour[labels == BACKGROUND] = 0
    colour[labels == VOID] = 0.5
    return colour


def overlay(
    image: UInt8[np.ndarray, "height width 3"], labels: Int32[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw each object tinted, with its border in full colour; the colours are those of `colours_of`."""
    palette = np.rint(255 * colours_of(np.arange(int(labels.max(initial=0)) + 1)[None])[0]).astype(np.uint8)
    drawn = image.copy()
    for start in range(0, len(labels), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        # with one more row on either side, so that block edges are not taken for borders
        around = labels[max(0, start - 1) : start + ROWS_AT_ONCE + 1]
        here, colour = labels[rows], palette[labels[rows]]
        object_here = here > 0
        mixed = np.rint((1 - TINT) * drawn[rows][object_here] + TINT * colour[object_here]).astype(np.uint8)
        drawn[rows][object_here] = mixed
        border = find_edges(around)[start - max(0, start - 1) :][: len(here)] & object_here
        drawn[rows][border] = colour[border]
    return drawn


def find_edges(labels: Int32[np.ndarray, "rows columns"]) -> np.ndarray:
    """Return the pixels with a neighbour above, below, left or right of another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    for axis in range(2):
        differ = np.diff(labels, axis=axis) != 0
        one, other = [slice(None)] * 2, [slice(None)] * 2
        one[axis], other[axis] = slice(None, -1), slice(1, None)
        edge[tuple(one)] |= differ
        edge[tuple(other)] |= differ
    return edge


def overlay_boundaries(
    image: UInt8[np.ndarray, "height width 3"], strength: UInt8[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a boundary map in red over its image, as opaque as it is strong."""
    drawn = np.empty_like(image)
    for start in range(0, len(image), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        opaque = strength[rows, :, None] / np.float32(255)
        drawn[rows] = np.rint(
            (1 - opaque) * image[rows] + opaque * np.array([255, 0, 0], dtype=np.float32)
        ).astype(np.uint8)
    return drawn


def encode_png(pixels: np.ndarray) -> bytes:
    """Return 8-bit or 16-bit pixels as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=3)
    return stream.getvalue()
