from pathlib import Path

import numpy as np
from PIL import Image

from rpe.metric.calibration import reliability
from rpe.picture.reliability import draw_reliability


def test_the_curve_is_that_of_the_masks(tmp_path: Path) -> None:
    scores = np.linspace(0, 1, 50)
    kinds = {
        "true": reliability(scores, scores),
        "false": reliability(scores, 1 - scores),
        "wide": reliability(20 * scores - 3, scores),
    }
    kinds["none"] = reliability(np.zeros(0), np.zeros(0))
    for name, bins in kinds.items():
        draw_reliability(bins, tmp_path / f"{name}.png")
    pictures = {
        name: np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int) for name in kinds
    }
    assert (
        len({picture.tobytes() for picture in pictures.values()}) == 4
        and len({picture.shape for picture in pictures.values()}) == 1
    )
