from pathlib import Path

import numpy as np
from PIL import Image

from rpe.metric.curve import PUBLISHED_RECALL, RecallCurve
from rpe.picture.recall import draw_recall


def test_curves_are_drawn(tmp_path: Path) -> None:
    ours = RecallCurve("AR", np.array([1.0, 10, 1000]), np.array([0.1, 0.4, 0.5]))
    overlap = RecallCurve("10 masks", np.linspace(0.5, 1, 5), np.linspace(1, 0, 5))
    draw_recall([overlap], [ours], PUBLISHED_RECALL["AR"], "AR", tmp_path / "with.png")
    draw_recall([overlap], [ours], [], "AR", tmp_path / "without.png")
    pictures = [
        np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        for name in ("with.png", "without.png")
    ]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any(), (
        "published points are drawn"
    )
