"""Time the boundary benchmark on 200 maps x 99 thresholds, and compare it with a plain version.

    python benchmarks/boundary_speed.py maps=<folder>
    python benchmarks/boundary_speed.py plain=<folder> [images=0:200]
    python benchmarks/boundary_speed.py fast=<folder> [workers=2] [images=0:200] [plain=<folder>]

`maps` writes the test images' gradient magnitude as NPY files. `plain` counts without components and caches:
scikit-image's thinning, and one graph per annotator. `fast` scores the maps, and compares the counts with the
plain ones. BSDS500 is read from RPE_DATA_DIR. Missing folders are created.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.morphology import thin

from rpe.data.bsds import read_drawings, split_files
from rpe.data.module import data_root
from rpe.metric.boundary import (
    boundary_metrics,
    counts_from_table,
    even_thresholds,
    match_boundaries,
    matching_distance,
)
from rpe.metric.boundary.score import score_folder

SIGMA = 2.0
THRESHOLDS = even_thresholds(99)


def gradient_magnitude(image: Path) -> np.ndarray:
    """Return the gradient magnitude of the grey image, smoothed with SIGMA, scaled to a maximum of 1."""
    magnitude = ndimage.gaussian_gradient_magnitude(rgb2gray(np.asarray(Image.open(image))), SIGMA)
    return magnitude / magnitude.max()


def count_plainly(prediction: np.ndarray, truth: Path) -> np.ndarray:
    """Count matches with one whole graph for each threshold and annotator."""
    truths = [one.boundaries for one in read_drawings(truth)]
    max_distance, pixels = matching_distance(prediction.shape), sum(int(one.sum()) for one in truths)
    rows = []
    for threshold in THRESHOLDS:
        thinned = thin(prediction >= threshold)
        matches = [match_boundaries(thinned, one, max_distance) for one in truths]
        union = np.any([predicted for predicted, _ in matches], axis=0)
        rows.append(
            [sum(int(found.sum()) for _, found in matches), pixels, int(union.sum()), int(thinned.sum())]
        )
    return np.array(rows)


def plain(folder: Path, files: dict[str, tuple[Path, Path]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (image, truth) in files.items():
        target = folder / f"{name}.npy"
        if not target.exists():
            started = time.process_time()
            np.save(target, count_plainly(gradient_magnitude(image), truth))
            print(f"{name} {time.process_time() - started:.2f} s of one core", flush=True)


def fast(options: dict[str, str], files: dict[str, tuple[Path, Path]]) -> None:
    """Score the maps from an empty folder, and compare them with all plain counts found."""
    maps, workers = Path(options["fast"]), int(options.get("workers", 2))
    truths = {name: truth for name, (_, truth) in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        scored = score_folder(maps, truths, Path(folder), len(THRESHOLDS), workers=workers)
        seconds = time.monotonic() - started
    tables = dict(zip(scored.names, scored.counts.table(), strict=True))
    print(
        f"{len(files)} images x {len(THRESHOLDS)} thresholds, {workers} processes: {seconds:.0f} s   "
        + format_metrics(scored.metrics)
    )
    if "plain" in options:
        known = {
            file.stem: np.load(file)
            for file in sorted(Path(options["plain"]).glob("*.npy"))
            if file.stem in tables
        }
        ours = boundary_metrics(counts_from_table(np.array([tables[name] for name in known])), THRESHOLDS)
        theirs = boundary_metrics(counts_from_table(np.stack(list(known.values()))), THRESHOLDS)
        unequal = sum(not np.array_equal(tables[name][:, :2], table[:, :2]) for name, table in known.items())
        print(f"{len(known)} images, plain counts: {format_metrics(theirs)}")
        print(f"the same images here:    {format_metrics(ours)}")
        largest = max(abs(ours[name] - theirs[name]) for name in ("ODS", "OIS", "AP"))
        print(f"largest difference {largest:.1e}; images whose recall differs anywhere: {unequal}")


def format_metrics(result: dict[str, float]) -> str:
    return "  ".join(f"{name} {result[name]:.5f}" for name in ("ODS", "OIS", "AP"))


def main() -> None:
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    start, end = (int(number) for number in options.get("images", "0:200").split(":"))
    files = dict(list(split_files(data_root() / "BSR", "test").items())[start:end])
    if "maps" in options:
        Path(options["maps"]).mkdir(parents=True, exist_ok=True)
        for name, (image, _) in files.items():
            np.save(Path(options["maps"]) / f"{name}.npy", gradient_magnitude(image))
    elif "fast" in options:
        fast(options, files)
    else:
        plain(Path(options["plain"]), files)


if __name__ == "__main__":
    main()
