"""Compare prediction in tiles with prediction on whole images: nuclei test images, alone and in one mosaic.

    python benchmarks/mosaic.py [run=weights/nuclei] [side=4000] [folder=outputs/mosaic] [seed=0] [tile=1024]
        [overlap=256]

The mosaic holds the test images with the intensities that the network sees, at random offsets on black: each
image once, then more copies while they fit. It is predicted on the command line, in a process of its own,
whose peak memory (VmHWM) is printed. AP is TP / (TP + FP + FN) at IoU 0.5 (and 0.75), of all objects pooled,
and as the mean over the images after the mosaic is cut up again. A tile cuts an object that lies partly in
it. The table compares these objects on the mosaic and on the single images. Reads RPE_DATA_DIR/nuclei.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from rpe.data.module import data_root
from rpe.metric.instance_ap import compute_overlaps, count_matches, instance_figures, true_labels
from rpe.run import build_data
from rpe.run_files import read_run
from rpe.segment import Tile, cut_tiles

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {
    "run": "weights/nuclei",
    "side": "4000",
    "folder": "outputs/mosaic",
    "seed": "0",
    "tile": "1024",
    "overlap": "256",
}
MULTIPLE = 128
"""Tiles of this run start at multiples of it, its longest period."""

GAPS = (3, 40)
"""Black pixels between two cells."""

COMMAND = """
import pathlib, sys, rpe.run, predict
rpe.run.run_command(predict.main)
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
print("peak kB", next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def read_test_images(run: str) -> list[tuple[Path, np.ndarray, np.ndarray]]:
    """Return file, pixels as the network sees them, and truth of each test image."""
    data = build_data(OmegaConf.create(read_run(run)))
    root = data_root() / "nuclei"
    truth = json.loads((root / "annotations" / "instances_test.json").read_text())
    images = []
    for image in truth["images"]:
        file = root / "test" / image["file_name"]
        annotations = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
        pixels = data.reader.read(file).permute(1, 2, 0).numpy()
        images.append((file, pixels, true_labels(annotations, (image["height"], image["width"]))))
    return images


def place_images(
    sizes: list[tuple[int, int]], side: int, random: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Return (image, top, left) for shelves of images of falling height, with random gaps.

    All images are placed in rounds until no image fits.
    """
    placed: list[tuple[int, int, int]] = []
    top, left, height = int(random.integers(*GAPS)), int(random.integers(*GAPS)), 0
    while True:
        before = len(placed)
        for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index][0], random.random())):
            tall, wide = sizes[index]
            if left + wide > side:
                top, left, height = top + height + int(random.integers(*GAPS)), int(random.integers(*GAPS)), 0
            if top + tall > side or left + wide > side:
                continue
            down = int(random.integers(0, min(20, side - top - tall) + 1))
            placed.append((index, top + down, left))
            left, height = left + wide + int(random.integers(*GAPS)), max(height, tall + down)
        if len(placed) == before:
            return placed


def predict(options: dict[str, str], images: str, output: Path, *more: str) -> tuple[float, float]:
    """Predict on the command line in a process of its own; return seconds and peak GiB."""
    started = time.monotonic()
    arguments = [f"run={options['run']}", f"images={images}", f"output={output}", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if answer.returncode:
        raise SystemExit(answer.stdout + answer.stderr)
    return time.monotonic() - started, int(answer.stdout.split("peak kB")[1]) / 2**20


def read_labels(file: Path) -> np.ndarray:
    return np.array(Image.open(file)).astype(np.int64)


def find_cut_labels(tiles: list[Tile], labels: np.ndarray) -> np.ndarray:
    """Return True for each label that lies partly in some tile."""
    areas = np.bincount(labels.ravel())
    cut = np.zeros(len(areas), dtype=bool)
    for tile in tiles:
        inside = np.bincount(labels[tile.rows, tile.columns].ravel(), minlength=len(areas))
        cut |= (inside > 0) & (inside < areas)
    return cut


def count_chosen(truth: np.ndarray, prediction: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Count true positives, false positives and misses at IoU 0.5 for the chosen labels of the truth.

    An unmatched prediction is a false positive if it shares most pixels with a chosen label.
    """
    overlaps = compute_overlaps(truth, prediction)
    present = np.unique(truth[truth > 0])
    mine = chosen[present]
    most = np.full(overlaps.prediction_count, -1)
    order = np.argsort(overlaps.shared, kind="stable")
    most[overlaps.predictions[order]] = overlaps.truths[order]
    counts = count_matches(overlaps, mine, np.append(mine, False)[most])
    return np.array([counts.tp[0], counts.fp[0], counts.fn[0]])


def main() -> None:
    options = OPTIONS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    side, folder = int(options["side"]), Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    images = read_test_images(options["run"])
    placed = place_images(
        [truth.shape for _, _, truth in images], side, np.random.default_rng(int(options["seed"]))
    )
    mosaic, truth = np.zeros((side, side, 3), dtype=np.uint8), np.zeros((side, side), dtype=np.int64)
    first = []
    for index, top, left in placed:
        _, pixels, labels = images[index]
        height, width = labels.shape
        mosaic[top : top + height, left : left + width] = pixels
        first.append(int(truth.max()))
        truth[top : top + height, left : left + width] = np.where(labels > 0, labels + first[-1], labels)
    Image.fromarray(mosaic).save(folder / "mosaic.png")
    single = predict(options, str(images[0][0].parent), folder / "single")
    whole = predict(
        options,
        str(folder / "mosaic.png"),
        folder / "whole",
        "data.percentile_range=null",
        f"tile={options['tile']}",
        f"overlap={options['overlap']}",
    )
    found = read_labels(folder / "whole" / "labels" / "mosaic.png")
    alone = {
        file.stem: read_labels(folder / "single" / "labels" / f"{file.stem}.png") for file, _, _ in images
    }
    cells = [
        (index, slice(top, top + images[index][2].shape[0]), slice(left, left + images[index][2].shape[1]))
        for index, top, left in placed
    ]
    one_by_one = instance_figures([(images[index][2], alone[images[index][0].stem]) for index, _, _ in cells])
    cut_up = instance_figures([(images[index][2], found[rows, columns]) for index, rows, columns in cells])
    tiles = cut_tiles((side, side), int(options["tile"]), int(options["overlap"]), MULTIPLE)
    cut = find_cut_labels(tiles, truth.clip(min=0))
    counts = {"single images": np.zeros(3), "mosaic": np.zeros(3)}
    for (index, rows, columns), before in zip(cells, first, strict=True):
        labels = images[index][2]
        chosen = cut[np.where(np.arange(labels.max() + 1) > 0, np.arange(labels.max() + 1) + before, 0)]
        counts["single images"] += count_chosen(labels, alone[images[index][0].stem], chosen)
        counts["mosaic"] += count_chosen(labels, found[rows, columns], chosen)
    everything = count_chosen(truth, found, np.ones(int(truth.max()) + 1, dtype=bool))
    print(
        f"{len(placed)} cells of {len(images)} images, {int(truth.max()):,} objects, "
        f"{int(cut.sum()):,} of them cut by a tile; {len(tiles)} tiles"
    )
    print("| metric | single images | mosaic |\n|---|---|---|")
    for name in ("AP50", "AP75", "AP50-pooled", "AP75-pooled"):
        print(f"| {name} of the cells | {one_by_one[name]:.4f} | {cut_up[name]:.4f} |")
    whole_score = everything[0] / everything.sum()
    print(f"| AP50-pooled of the mosaic as one image | {one_by_one['AP50-pooled']:.4f} | {whole_score:.4f} |")
    rows = {
        name: (values[0] / values.sum(), values[0] / (values[0] + values[2]))
        for name, values in counts.items()
    }
    print(
        f"| AP50 of objects cut by tile borders | {rows['single images'][0]:.4f} | {rows['mosaic'][0]:.4f} |"
    )
    print(f"| recall at IoU 0.5 of these | {rows['single images'][1]:.4f} | {rows['mosaic'][1]:.4f} |")
    print(f"| seconds, including the start | {single[0]:.1f} ({len(images)} images) | {whole[0]:.1f} |")
    print(f"| peak memory, GiB | {single[1]:.2f} | {whole[1]:.2f} |")


if __name__ == "__main__":
    main()
