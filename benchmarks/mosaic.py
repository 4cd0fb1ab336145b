"""Compare prediction in tiles with prediction on whole images: nuclei test images, alone and in one mosaic.

    python benchmarks/mosaic.py [run=weights/nuclei] [side=4000] [split=test] [folder=outputs/mosaic]
        [seed=0] [tile=auto] [overlap=256] [whole=false]

The mosaic holds the split's images with the intensities that the network sees, at random offsets on black:
each image once, then more copies while they fit. It is predicted on the command line, in a process of its
own, whose peak memory (VmHWM) is printed. AP is TP / (TP + FP + FN) at IoU 0.5, 0.55 .. 0.9, of all objects
pooled, and as the mean over the images after the mosaic is cut up again. A tile cuts an object that lies
partly in it. The table compares these objects on the mosaic and on the single images. Reads
RPE_DATA_DIR/nuclei.

`whole=true` also predicts the mosaic in one piece, in about 0.6 GiB a megapixel. Its difference to the
mosaic in tiles is what cutting and stitching cost. The rest of the difference to the single images is the
network's: an object that an image's border cuts is at a border alone, as in training, and touches black or
another image in a mosaic. So the objects that no image's border cuts have rows of their own.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from rpe.data.module import data_root
from rpe.metric.instance_ap import compute_overlaps, count_matches, instance_metrics, true_labels
from rpe.run import build_data
from rpe.run_files import read_run
from rpe.segment import Tile, cut_tiles
from rpe.segment.tiles import Side

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {
    "run": "weights/nuclei",
    "side": "4000",
    "split": "test",
    "folder": "outputs/mosaic",
    "seed": "0",
    "tile": "auto",
    "overlap": "256",
    "whole": "false",
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


def read_images(run: str, split: str) -> list[tuple[Path, np.ndarray, np.ndarray]]:
    """Return file, pixels as the network sees them, and truth of each image of a split."""
    data = build_data(OmegaConf.create(read_run(run)))
    root = data_root() / "nuclei"
    truth = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    images = []
    for image in truth["images"]:
        file = root / split / image["file_name"]
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
    """Count true positives, false positives and misses (rows) at each IoU (columns) for the chosen labels.

    An unmatched prediction is a false positive if it shares most pixels with a chosen label.
    """
    overlaps = compute_overlaps(truth, prediction)
    present = np.unique(truth[truth > 0])
    mine = chosen[present]
    most = np.full(overlaps.prediction_count, -1)
    order = np.argsort(overlaps.shared, kind="stable")
    most[overlaps.predictions[order]] = overlaps.truths[order]
    counts = count_matches(overlaps, mine, np.append(mine, False)[most])
    return np.stack([counts.tp, counts.fp, counts.fn])


def find_inner_labels(labels: np.ndarray) -> np.ndarray:
    """Return True for each label of an image without a pixel at the image's border."""
    inner = np.ones(int(labels.max()) + 1, dtype=bool)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    inner[edges[edges > 0]] = False
    return inner


def main() -> None:
    options = OPTIONS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    side, folder = int(options["side"]), Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    images = read_images(options["run"], options["split"])
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
    cuts = {"mosaic": [f"tile={options['tile']}", f"overlap={options['overlap']}"]}
    if options["whole"] == "true":
        cuts["mosaic in one piece"] = ["tile=null"]
    spent, maps = {"single images": single}, {}
    for name, cut in cuts.items():
        output = folder / name.replace(" ", "_")
        spent[name] = predict(options, str(folder / "mosaic.png"), output, "data.percentile_range=null", *cut)
        maps[name] = read_labels(output / "labels" / "mosaic.png")
    alone = {
        file.stem: read_labels(folder / "single" / "labels" / f"{file.stem}.png") for file, _, _ in images
    }
    cells = [
        (index, slice(top, top + images[index][2].shape[0]), slice(left, left + images[index][2].shape[1]))
        for index, top, left in placed
    ]
    tile: Side = "auto" if options["tile"] == "auto" else int(options["tile"])
    tiles = cut_tiles((side, side), tile, int(options["overlap"]), MULTIPLE)
    cut_labels = find_cut_labels(tiles, truth.clip(min=0))
    pairs = {"single images": [(images[index][2], alone[images[index][0].stem]) for index, _, _ in cells]}
    pairs |= {
        name: [(images[index][2], found[rows, columns]) for index, rows, columns in cells]
        for name, found in maps.items()
    }
    figures = {name: instance_metrics(some) for name, some in pairs.items()}
    counts, inner = ({name: np.zeros((3, 9)) for name in pairs} for _ in range(2))
    for number, before in enumerate(first):
        labels = pairs["single images"][number][0]
        number_in_mosaic = np.arange(labels.max() + 1) + before
        number_in_mosaic[0] = 0
        for name, some in pairs.items():
            counts[name] += count_chosen(*some[number], cut_labels[number_in_mosaic])
            inner[name] += count_chosen(*some[number], find_inner_labels(labels))
    everything = np.ones(int(truth.max()) + 1, dtype=bool)
    as_one = {name: count_chosen(truth, found, everything) for name, found in maps.items()}
    print(
        f"{len(placed)} cells of {len(images)} images, {int(truth.max()):,} objects, "
        f"{int(cut_labels.sum()):,} of them cut by a tile; {len(tiles)} tiles"
    )
    rows = {
        f"{name} of the cells": [f"{one[name]:.4f}" for one in figures.values()]
        for name in figures["single images"]
        if re.fullmatch(r"AP\d+(-pooled)?", name)
    }
    for place, name in ((0, "AP50"), (5, "AP75")):
        rows[f"{name}-pooled of the mosaic as one image"] = [
            f"{figures['single images'][f'{name}-pooled']:.4f}",
            *(f"{(one[0] / one.sum(0))[place]:.4f}" for one in as_one.values()),
        ]
        for some, which in ((inner, "no image border cuts"), (counts, "tile borders cut")):
            rows[f"{name} of objects that {which}"] = [
                f"{(one[0] / one.sum(0))[place]:.4f}" for one in some.values()
            ]
    rows["seconds, including the start"] = [f"{one[0]:.1f}" for one in spent.values()]
    rows["peak memory, GiB"] = [f"{one[1]:.2f}" for one in spent.values()]
    print(f"| metric | {' | '.join(pairs)} |\n|{'---|' * (1 + len(pairs))}")
    for label, values in rows.items():
        print(f"| {label} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
