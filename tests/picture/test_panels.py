from pathlib import Path

import numpy as np
from PIL import Image

from rpe.picture.panels import GAP, draw_panels


def test_panels_lie_in_rows_below_their_titles(tmp_path: Path) -> None:
    red = np.zeros((4, 8, 3), dtype=np.uint8)
    red[..., 0] = 255
    panels = [("one", red), ("two\nlines", np.full((4, 8), 0.5)), ("three", np.zeros((4, 8)))]
    draw_panels(panels, 2, 80, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    rows, columns = np.nonzero((pixels == [255, 0, 0]).all(-1))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, columns.min()) == (40, 80, GAP)
    assert (pixels[rows.min() : rows.max() + 1, -GAP - 80 : -GAP] == 128).all(), "of floating-point numbers"
    assert (pixels[-GAP - 40 : -GAP, GAP : GAP + 80] == 0).all() and (pixels[-GAP - 40 :, -80:] == 255).all()
    title = pixels[: rows.min() - 1, :86]
    assert (title < 128).any(), "the title stands above its panel"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png"]


def test_values_beyond_the_range_are_cut(tmp_path: Path) -> None:
    draw_panels([("", np.array([[-1.0, 2.0]]))], 1, 20, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))[-GAP - 3]
    assert pixels[GAP : GAP + 10].max() == 0 and pixels[GAP + 10 : GAP + 20].min() == 255
