"""Score detectors without learning on BSDS500, with this project's evaluator: gradient magnitude and Canny.

    python benchmarks/boundary_baselines.py [split=test] [folder=outputs/baselines] [workers=2]
        [beside=<evaluation folder>]

Write the maps, score them into `<folder>/<method>-<split>`, and draw `<folder>/curve-<split>.png`, with the
curve of a run if `beside` names one. The same command resumes when it was stopped. The gradient is that of
the grey image smoothed with SIGMA. A pixel's strength by Canny is the highest threshold at which it is still
an edge. Canny is scikit-image's.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import canny

from rpe.data.bsds import split_files
from rpe.data.module import data_root
from rpe.metric.boundary.score import score_folder
from rpe.picture.curve import PUBLISHED, draw_curve
from rpe.tools.report.jobs import read_metrics

SIGMA = 2.0
LOW = 0.4
"""Canny's lower threshold as a share of the upper one, as in MATLAB."""

LEVELS = np.geomspace(0.02, 1.6, 50)
"""Upper thresholds in scikit-image's unit, eight times the gradient per pixel. A step from black to white,
smoothed with SIGMA, has 1.6."""


def gradient_magnitude(grey: np.ndarray) -> np.ndarray:
    # the gradient of a step from black to white is 1
    return np.clip(ndimage.gaussian_gradient_magnitude(grey, SIGMA) * SIGMA * np.sqrt(2 * np.pi), 0, 1)


def canny_strength(grey: np.ndarray) -> np.ndarray:
    strength = np.zeros_like(grey)
    for number, level in enumerate(LEVELS, start=1):
        edges = canny(grey, SIGMA, low_threshold=LOW * level, high_threshold=level)
        if not edges.any():
            break
        strength[edges] = number / len(LEVELS)
    return strength


def read_curve(evaluation: Path) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Return recall and precision at each threshold, and ODS, from the files of `evaluate.py`."""
    with (evaluation / "thresholds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    recall, precision = (np.array([float(row[column]) for row in rows]) for column in ("recall", "precision"))
    return (recall, precision), read_metrics(evaluation / "metrics.json")[0]["ODS"]


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gradient magnitude": gradient_magnitude,
    "Canny": canny_strength,
}


def main() -> None:
    options = {"split": "test", "folder": "outputs/baselines", "workers": "2"} | dict(
        argument.split("=", 1) for argument in sys.argv[1:]
    )
    files = split_files(data_root() / "BSR", options["split"])
    curves, best = {}, {}
    if "beside" in options:
        curves["ours"], best["ours"] = read_curve(Path(options["beside"]))
    for method, strength in METHODS.items():
        folder = Path(options["folder"]) / f"{method.replace(' ', '-')}-{options['split']}"
        (folder / "maps").mkdir(parents=True, exist_ok=True)
        for name, (image, _) in files.items():
            if not (folder / "maps" / f"{name}.npy").exists():
                np.save(
                    folder / "maps" / f"{name}.npy",
                    strength(rgb2gray(np.asarray(Image.open(image)))).astype(np.float32),
                )
        truths = {name: truth for name, (_, truth) in files.items()}
        scored = score_folder(
            folder / "maps", truths, folder / "journal", 99, workers=int(options["workers"])
        )
        print(
            f"{method}: " + "  ".join(f"{name} {scored.metrics[name]:.4f}" for name in ("ODS", "OIS", "AP")),
            flush=True,
        )
        curves[method], best[method] = scored.curve(), scored.metrics["ODS"]
    draw_curve(curves, best, PUBLISHED, Path(options["folder"]) / f"curve-{options['split']}.png")


if __name__ == "__main__":
    main()
