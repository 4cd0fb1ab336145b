import re

import numpy as np
from matplotlib.path import Path as Polygon

from rpe.tools.gallery.outline import MAX_OUTLINES, trace_outlines


def painted(path: str, height: int, width: int) -> np.ndarray:
    """The pixels whose centres an even-odd fill of the SVG path covers."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    centres = np.stack([columns.ravel(), rows.ravel()], 1)
    filled = np.zeros(height * width, dtype=bool)
    for ring in re.findall(r"M([^Z]*)Z", path):
        filled ^= Polygon(
            [[float(number) for number in corner.split()] for corner in ring.split("L")]
        ).contains_points(centres)
    return filled.reshape(height, width)


def test_an_outline_filled_is_its_mask() -> None:
    labels = np.zeros((40, 60), dtype=np.int64)
    labels[5:30, 10:40] = 1
    labels[12:20, 18:30] = 0  # a hole
    labels[33:40, 50:60] = 3  # in the corner; label 2 is missing
    labels[0, 0] = -1
    found = {one.label: one for one in trace_outlines(labels, {1: 0.5}, {3: 7000})}
    assert list(found) == [1, 3]
    for label, one in found.items():
        assert np.count_nonzero(painted(one.path, 40, 60) ^ (labels == label)) <= 0.02 * np.count_nonzero(
            labels == label
        )
    assert (
        found[1].words == "object 1: area 654 px, score 0.500" and found[3].words == "object 3: area 7,000 px"
    )
    assert found[1].hue != found[3].hue


def test_the_largest_come_first_and_no_more_than_can_be_told_apart() -> None:
    labels = np.repeat(np.arange(1, 31 * 31 + 1).reshape(31, 31), 4, axis=0).repeat(4, axis=1)
    labels[:8, :8] = 5
    found = trace_outlines(labels, {}, {})
    assert len(found) == MAX_OUTLINES and found[0].label == 5


def test_no_object() -> None:
    assert trace_outlines(np.zeros((3, 3), dtype=np.int64), {}, {}) == []
