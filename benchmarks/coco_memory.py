"""Measure the memory of loading all of COCO, with an annotation file of train2017's size.

    python benchmarks/coco_memory.py [images=118287] [annotations=860001] [samples=30000] [workers=2]
        [folder=...]
    python benchmarks/coco_memory.py masks=100,1000 [images=5000] [annotations=36335]
        [backends=own,pycocotools] [folder=...]

The images are one small file, linked under all names. The polygons are random, with as many corners as
COCO's, so that the file has COCO's size (517 MB). The kernel reports USS, the pages of one process alone, and
PSS, which adds its share of shared pages. Workers that grow page by page (by reference counts in shared
Python objects) would show in both. Images per second come last.

With `masks`, results of so many masks per image are generated for a validation split of val2017's size, and
`evaluate.py` scores them by its own implementation and by pycocotools: seconds, peak memory, and AR of both.
With 1,000 masks per image pycocotools would hold 5,000,000 rows as dicts; `backends=own` leaves it out.
A mask is an object's polygon moved by up to 8 pixels, at random.
"""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import rpe.run.train  # noqa: F401  (a training has it in memory too)
from rpe.data.coco import Coco, CocoImages
from rpe.rle import compress
from rpe.tools.report.jobs import read_metrics

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = {
    "images": "118287",
    "annotations": "860001",
    "samples": "30000",
    "workers": "2",
    "masks": "",
    "backends": "own,pycocotools",
    "folder": "",
}
VALIDATION = {"images": "5000", "annotations": "36335"}
SIDES = (96, 128)
"""Height and width of a made image in pixels."""

CORNERS = 25.0
"""Mean corners of a polygon. With 1.3 polygons per mask the file has COCO's size."""


def write_annotations(file: Path, images: int, annotations: int, scale: int) -> None:
    """Write annotations in COCO's layout and order, which does not group them by image.

    Images have 96 x 128 pixels, times `scale`.
    """
    random = np.random.default_rng(0)
    height, width = SIDES[0] * scale, SIDES[1] * scale
    owners = random.integers(0, images, annotations)
    with file.open("w") as out:
        rows = [
            {
                "id": 1 + 5 * k,
                "file_name": f"{1 + 5 * k:012d}.jpg",
                "height": height,
                "width": width,
                "license": 3,
            }
            for k in range(images)
        ]
        out.write('{"info": {}, "images": ' + json.dumps(rows) + ', "annotations": [')
        for number, owner in enumerate(owners.tolist()):
            crowd = {"counts": [3000, 40, 56, 40, height * width - 3136], "size": [height, width]}
            rings = [ring(random, scale) for _ in range(1 + (number % 3 == 0))]
            row = {
                "segmentation": rings if number % 86 else crowd,
                "area": 400.5 * scale**2,
                "iscrowd": int(number % 86 == 0),
                "image_id": 1 + 5 * owner,
                "bbox": [1.5, 2.5, 30.1 * scale, 20.2 * scale],
            }
            out.write(
                (", " if number else "")
                + json.dumps(row | {"category_id": 1 + number % 80, "id": 10 * number})
            )
        out.write(
            '], "categories": ' + json.dumps([{"id": k, "name": f"thing {k}"} for k in range(1, 81)]) + "}"
        )


def ring(random: np.random.Generator, scale: int) -> list[float]:
    """Return a random polygon around a centre that contains at least a pixel.

    Neighbouring corners are less than 156 degrees apart and at least 5 pixels from the centre, so that a disc
    of a pixel's radius lies inside.
    """
    corners = max(3, int(random.exponential(CORNERS)))
    angles = (np.arange(corners) + 0.3 * random.random(corners)) / corners * 2 * np.pi
    centre, radius = random.uniform(20, 76, 2), random.uniform(5, 18, corners)
    points = np.stack([centre[0] + 20 + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
    return (scale * points).round(2).flatten().tolist()


def memory_of(process: int) -> tuple[float, float]:
    """Return USS and PSS of a process in MB."""
    values: dict[str, float] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            values[words[0].rstrip(":")] = int(words[1]) / 1024
    return values["Private_Clean"] + values["Private_Dirty"], values["Pss"]


def write_dataset(root: Path, split: str, images: int, annotations: int, scale: int) -> Path:
    """Write a split of the synthetic dataset, unless it exists; return its annotation file."""
    file = root / "annotations" / f"instances_{split}.json"
    if file.exists():
        return file
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir()
    picture = root / f"{split}.jpg"
    pixels = np.random.default_rng(0).integers(
        0, 255, (SIDES[0] * scale, SIDES[1] * scale, 3), dtype=np.uint8
    )
    Image.fromarray(pixels).save(picture)
    for k in range(images):
        (root / split / f"{1 + 5 * k:012d}.jpg").symlink_to(picture)
    write_annotations(file, images, annotations, scale)
    return file


def write_results(file: Path, annotations: Path, masks: int) -> None:
    """Write `masks` rows for each image: its objects' polygons, moved, with random scores."""
    random = np.random.default_rng(1)
    truth = json.loads(annotations.read_text())
    polygons: dict[int, list[list[list[float]]]] = {image["id"]: [] for image in truth["images"]}
    for row in truth["annotations"]:
        if not row["iscrowd"]:
            polygons[row["image_id"]].append(row["segmentation"])
    others = [polygon for several in polygons.values() for polygon in several]
    size = truth["images"][0]["height"], truth["images"][0]["width"]
    with file.open("w") as out:
        for number, (image_id, several) in enumerate(polygons.items()):
            drawn = random.integers(0, 2**31, masks) % len(several or others)
            moves, scores = random.uniform(-8, 8, masks), random.random(masks)
            rings = [
                [[value + move for value in ring] for ring in (several or others)[index]]
                for index, move in zip(drawn, moves, strict=True)
            ]
            rows = [
                {
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": compress(polygon, size),
                    "score": score,
                }
                for polygon, score in zip(rings, scores.tolist(), strict=True)
            ]
            out.write(("," if number else "[") + json.dumps(rows)[1:-1])
        out.write("]")


def measure_evaluation(root: Path, file: Path, masks: int, backends: list[str]) -> None:
    """Print seconds, peak memory and AR of `evaluate.py` on a results file, by each implementation."""
    for backend in backends:
        output = root / f"evaluation-{masks}-{backend}"
        command = [
            "evaluate.py",
            f"predictions={file}",
            "data=coco",
            f"data.root={root}",
            f"backend={backend}",
            f"hydra.run.dir={output}",
        ]
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"evaluate.py must end with 0, got {status} for {file}.")
        metrics = read_metrics(output / "metrics.json")[0]
        recalls = ", ".join(f"{name} {metrics[name]:.6f}" for name in ("AR@10", "AR@100", "AR@1000"))
        print(
            f"{masks} masks per image, {file.stat().st_size / 1e6:.0f} MB, {backend}: "
            f"{time.monotonic() - started:.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s of CPU), "
            f"peak {usage.ru_maxrss / 1024:.0f} MB, {recalls}",
            flush=True,
        )


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    settings = DEFAULTS | (VALIDATION if given.get("masks") else {}) | given
    images, annotations, samples, workers = (
        int(settings[key]) for key in ("images", "annotations", "samples", "workers")
    )
    root = Path(settings["folder"] or tempfile.mkdtemp())
    split, scale = ("val2017", 5) if settings["masks"] else ("train2017", 1)
    try:
        file = write_dataset(root, split, images, annotations, scale)
        size = file.stat().st_size / 1e6
        print(f"{images:,} images, {annotations:,} annotations, {size:.1f} MB", flush=True)
        if not settings["masks"]:
            measure(root, samples, workers)
        for masks in filter(None, settings["masks"].split(",")):
            results = root / f"results-{masks}.json"
            if not results.exists():
                write_results(results, file, int(masks))
            measure_evaluation(root, results, int(masks), settings["backends"].split(","))
    finally:
        if not settings["folder"]:
            shutil.rmtree(root)


def measure(root: Path, samples: int, workers: int) -> None:
    before, peak_before = memory_of(os.getpid())[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, busy = time.monotonic(), time.process_time()
    options = dict(
        longest_side=None,
        crop=64,
        train_categories=None,
        eval_categories=None,
        augment=None,
        empty_masks="refuse",
        percentile_range=None,
        cache=False,
    )
    data = Coco(
        name="coco", root=str(root), batch_size=8, eval_batch_size=1, num_workers=workers, seed=0, **options
    )  # type: ignore[arg-type]
    dataset = data.dataset("train", training=True)
    assert isinstance(dataset, CocoImages)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"opened in {time.monotonic() - started:.1f} s ({time.process_time() - busy:.1f} s of CPU)")
    after = memory_of(os.getpid())[0]
    print(
        f"main process: USS {before:.0f} MB before, {after:.0f} MB after, "
        f"peak {peak:.0f} MB (before {peak_before:.0f} MB)"
    )
    held = sum(value.nbytes for value in vars(dataset.annotations).values() if isinstance(value, np.ndarray))
    print(f"annotations as arrays: {held / 1e6:.0f} MB")
    started = time.monotonic()
    loader = iter(data.train_dataloader())
    seen = 0
    while seen < samples:
        with contextlib.suppress(StopIteration):
            seen += len(next(loader).image_ids)
        if seen <= data.batch_size:
            print(f"first batch after {time.monotonic() - started:.1f} s")
            started = time.monotonic()
        if seen % max(8, samples // 6 // 8 * 8) == 0:
            children = [
                int(child)
                for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            ]
            found = [memory_of(child) for child in children]
            print(
                f"{seen:7,} samples: "
                + ", ".join(f"worker USS {uss:.0f} MB PSS {pss:.0f} MB" for uss, pss in found if pss > 20),
                flush=True,
            )
    print(
        f"{workers} workers: {(seen - data.batch_size) / (time.monotonic() - started):.0f} images per second"
    )


if __name__ == "__main__":
    main()
