"""Prediction on a large image beside prediction on its parts: the nuclei test images one by one, and in one mosaic that is predicted in tiles.

    python benchmarks/mosaic.py [run=weights/nuclei] [side=4000] [folder=outputs/mosaic] [seed=0] [tile=1024] [overlap=256]

The mosaic holds the test images, as the network sees them (stretched), at random offsets on black, all of them once and then as many again as fit.
It is predicted through the door, in a process of its own, whose peak memory (VmHWM) is told. AP is TP / (TP + FP + FN) at IoU 0.5 (and 0.75): of all
objects pooled, and the mean over the images, the mosaic cut up again. An object is cut by a tile if it lies partly in it; its row is that of these
objects on the mosaic, and beside it that of the same ones on the single images. Reads RPE_DATA_DIR/nuclei.
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
from rpe.metric.instance_ap import count_matches, instance_figures, overlaps_of, true_labels
from rpe.run import build_data
from rpe.run_files import read_run
from rpe.segment import Tile, tiles_of

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
"""At which tiles of this run start: its longest period."""

GAPS = (3, 40)
"""Black pixels between two cells."""

DOOR = """
import pathlib, sys, rpe.run, predict
rpe.run.enter(predict.main)
print("peak kB", next(line.split()[1] for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def test_images(run: str) -> list[tuple[Path, np.ndarray, np.ndarray]]:
    """Of each test image its file, its pixels as the network sees them, and its truth."""
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


def places_of(
    sizes: list[tuple[int, int]], side: int, random: np.random.Generator
) -> list[tuple[int, int, int]]:
    """(image, top, left): shelves of images of falling height, with random gaps; rounds of all images until none fits."""
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
    """Through the door, in a process of its own; seconds, and GiB at most."""
    started = time.monotonic()
    arguments = [f"run={options['run']}", f"images={images}", f"output={output}", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", DOOR, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if answer.returncode:
        raise SystemExit(answer.stdout + answer.stderr)
    return time.monotonic() - started, int(answer.stdout.split("peak kB")[1]) / 2**20


def read_labels(file: Path) -> np.ndarray:
    return np.array(Image.open(file)).astype(np.int64)


def cut_by(tiles: list[Tile], labels: np.ndarray) -> np.ndarray:
    """Which labels lie partly in some tile."""
    areas = np.bincount(labels.ravel())
    cut = np.zeros(len(areas), dtype=bool)
    for tile in tiles:
        inside = np.bincount(labels[tile.rows, tile.columns].ravel(), minlength=len(areas))
        cut |= (inside > 0) & (inside < areas)
    return cut


def of_chosen(truth: np.ndarray, prediction: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """True positives, false positives and misses at IoU 0.5 of the chosen labels of the truth; false is what matches nothing and shares most with a chosen one."""
    overlaps = overlaps_of(truth, prediction)
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
    images = test_images(options["run"])
    placed = places_of(
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
    tiles = tiles_of((side, side), int(options["tile"]), int(options["overlap"]), MULTIPLE)
    cut = cut_by(tiles, truth.clip(min=0))
    counts = {"single images": np.zeros(3), "mosaic": np.zeros(3)}
    for (index, rows, columns), before in zip(cells, first, strict=True):
        labels = images[index][2]
        chosen = cut[np.where(np.arange(labels.max() + 1) > 0, np.arange(labels.max() + 1) + before, 0)]
        counts["single images"] += of_chosen(labels, alone[images[index][0].stem], chosen)
        counts["mosaic"] += of_chosen(labels, found[rows, columns], chosen)
    everything = of_chosen(truth, found, np.ones(int(truth.max()) + 1, dtype=bool))
    print(
        f"{len(placed)} cells of {len(images)} images, {int(truth.max()):,} objects, {int(cut.sum()):,} of them cut by a tile; {len(tiles)} tiles"
    )
    print("| figure | single images | mosaic |\n|---|---|---|")
    for name in ("AP50", "AP75", "AP50-pooled", "AP75-pooled"):
        print(f"| {name} of the cells | {one_by_one[name]:.4f} | {cut_up[name]:.4f} |")
    print(
        f"| AP50-pooled of the mosaic as one image | {one_by_one['AP50-pooled']:.4f} | {everything[0] / everything.sum():.4f} |"
    )
    rows = {
        name: (values[0] / values.sum(), values[0] / (values[0] + values[2]))
        for name, values in counts.items()
    }
    print(
        f"| AP50 of objects cut by tile borders | {rows['single images'][0]:.4f} | {rows['mosaic'][0]:.4f} |"
    )
    print(f"| recall at IoU 0.5 of these | {rows['single images'][1]:.4f} | {rows['mosaic'][1]:.4f} |")
    print(f"| seconds, start included | {single[0]:.1f} ({len(images)} images) | {whole[0]:.1f} |")
    print(f"| peak memory, GiB | {single[1]:.2f} | {whole[1]:.2f} |")


if __name__ == "__main__":
    main()
