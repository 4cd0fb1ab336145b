"""Measure the memory of loading all of COCO, with an annotation file of train2017's size.

    python benchmarks/coco_memory.py [images=118287] [annotations=860001] [samples=30000] [workers=2]
        [folder=...]

The images are one small file, linked under all names. The polygons are random, with as many corners as
COCO's, so that the file has COCO's size (517 MB). The kernel reports USS, the pages of one process alone, and
PSS, which adds its share of shared pages. Workers that grow page by page (by reference counts in shared
Python objects) would show in both.
"""

import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import rpe.run.train  # noqa: F401  (a training has it in memory too)
from rpe.data.coco import Coco, CocoImages

DEFAULTS = {"images": "118287", "annotations": "860001", "samples": "30000", "workers": "2", "folder": ""}
CORNERS = 25.0
"""Mean corners of a polygon. With 1.3 polygons per mask the file has COCO's size."""


def write_annotations(file: Path, images: int, annotations: int) -> None:
    """Write annotations in COCO's layout and order, which does not group them by image."""
    random = np.random.default_rng(0)
    owners = random.integers(0, images, annotations)
    with file.open("w") as out:
        rows = [
            {"id": 1 + 5 * k, "file_name": f"{1 + 5 * k:012d}.jpg", "height": 96, "width": 128, "license": 3}
            for k in range(images)
        ]
        out.write('{"info": {}, "images": ' + json.dumps(rows) + ', "annotations": [')
        for number, owner in enumerate(owners.tolist()):
            crowd = {"counts": [3000, 40, 56, 40, 96 * 128 - 3136], "size": [96, 128]}
            rings = [ring(random) for _ in range(1 + (number % 3 == 0))]
            row = {
                "segmentation": rings if number % 86 else crowd,
                "area": 400.5,
                "iscrowd": int(number % 86 == 0),
                "image_id": 1 + 5 * owner,
                "bbox": [1.5, 2.5, 30.1, 20.2],
            }
            out.write(
                (", " if number else "")
                + json.dumps(row | {"category_id": 1 + number % 80, "id": 10 * number})
            )
        out.write(
            '], "categories": ' + json.dumps([{"id": k, "name": f"thing {k}"} for k in range(1, 81)]) + "}"
        )


def ring(random: np.random.Generator) -> list[float]:
    """Return a random polygon around a centre that contains at least a pixel.

    Neighbouring corners are less than 156 degrees apart and at least 5 pixels from the centre, so that a disc
    of a pixel's radius lies inside.
    """
    corners = max(3, int(random.exponential(CORNERS)))
    angles = (np.arange(corners) + 0.3 * random.random(corners)) / corners * 2 * np.pi
    centre, radius = random.uniform(20, 76, 2), random.uniform(5, 18, corners)
    points = np.stack([centre[0] + 20 + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
    return points.round(2).flatten().tolist()


def memory_of(process: int) -> tuple[float, float]:
    """Return USS and PSS of a process in MB."""
    values: dict[str, float] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            values[words[0].rstrip(":")] = int(words[1]) / 1024
    return values["Private_Clean"] + values["Private_Dirty"], values["Pss"]


def write_dataset(root: Path, images: int, annotations: int) -> None:
    """Write the synthetic dataset, unless it exists."""
    file = root / "annotations" / "instances_train2017.json"
    if file.exists():
        return
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    picture = root / "picture.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(picture)
    for k in range(images):
        (root / "train2017" / f"{1 + 5 * k:012d}.jpg").symlink_to(picture)
    write_annotations(file, images, annotations)


def main() -> None:
    settings = DEFAULTS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    images, annotations, samples, workers = (
        int(settings[key]) for key in ("images", "annotations", "samples", "workers")
    )
    root = Path(settings["folder"] or tempfile.mkdtemp())
    try:
        write_dataset(root, images, annotations)
        size = (root / "annotations" / "instances_train2017.json").stat().st_size
        print(f"{images:,} images, {annotations:,} annotations, {size / 1e6:.0f} MB", flush=True)
        measure(root, samples, workers)
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
    loader = iter(data.train_dataloader())
    seen = 0
    while seen < samples:
        with contextlib.suppress(StopIteration):
            seen += len(next(loader).image_ids)
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


if __name__ == "__main__":
    main()
