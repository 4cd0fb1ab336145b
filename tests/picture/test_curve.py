from pathlib import Path

import numpy as np
from PIL import Image

from rpe.metric.boundary import f_measure
from rpe.picture.curve import F_LINES, PUBLISHED, draw_curve, precision_at


def test_lines_have_one_f_measure() -> None:
    recall = np.linspace(0.01, 1, 50)
    for score in F_LINES:
        precision = precision_at(recall, score)
        there = np.isfinite(precision)
        assert there.any() and np.allclose(f_measure(recall[there], precision[there]), score)
        # what is left out would need a precision above 1
        assert (f_measure(recall[~there], np.ones((~there).sum())) <= score + 1e-9).all()


def test_curve_is_drawn(tmp_path: Path) -> None:
    recall = np.array([0.9, 0.6, 0.2, 0.0])
    plain, marked = tmp_path / "plain.png", tmp_path / "marked.png"
    draw_curve({"ours": (recall, np.array([0.5, 0.7, 0.9, 0.0]))}, {"ours": 0.65}, {}, plain)
    draw_curve({"ours": (recall, np.array([0.5, 0.7, 0.9, 0.0]))}, {"ours": 0.65}, PUBLISHED, marked)
    one, other = (np.asarray(Image.open(file).convert("RGB")) for file in (plain, marked))
    assert one.shape == other.shape and (one != other).any()
