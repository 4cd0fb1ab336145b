"""Time average recall on a results file of 1,000 masks per image: the two libraries alone, and every backend.

    RPE_DATA_DIR=... python benchmarks/evaluation_speed.py <folder>

Each is measured in its own processes on one thread; the fastest counts. The libraries alone compute COCO's
metrics. A backend also checks the file and adds the VOC protocol. The data are 79 images of COCO val with
their annotations. The masks are superpixels of two scales, and objects shifted, grown, shrunk and cut. Their
random scores have two digits, hence ties. The folder keeps the results file.
"""

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.segmentation import felzenszwalb

from rpe.data.annotation import read_truth
from rpe.data.module import data_root
from rpe.metric.average_recall import AREAS, BACKENDS, COCO_LIMITS, average_recall
from rpe.metric.reference import BACKEND_CLASSES
from rpe.rle import compress, decode_mask, encode_mask
from rpe.task.predictions import read_results

MASKS = 1000
REPEATS = 2
SCALES = (20, 100)


def superpixels(image: np.ndarray) -> list[np.ndarray]:
    masks = []
    for scale in SCALES:
        labels = felzenszwalb(image, scale=scale, sigma=0.8, min_size=80)
        masks += [labels == label for label in range(labels.max() + 1)]
    return masks


def jitter(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Move, thicken, thin or cut a mask."""
    kind, largest_shift = random.integers(4), (15, 4, 4, 15)
    moved = np.roll(mask, tuple(random.integers(-largest_shift[kind], largest_shift[kind] + 1, 2)), (0, 1))
    return (moved, mask | moved, mask & moved, mask & ~moved)[kind]


def make_masks(image: np.ndarray, objects: list[np.ndarray], random: np.random.Generator) -> list[str]:
    """Return distinct masks, half of them superpixels. Duplicate rows would be refused."""
    masks = superpixels(image)
    random.shuffle(masks)
    codes = dict.fromkeys(encode_mask(mask)["counts"] for mask in masks[: MASKS // 2])
    source = objects if objects else masks
    while len(codes) < MASKS:
        codes[encode_mask(jitter(source[random.integers(len(source))], random))["counts"]] = None
    return list(codes)


def write_results(truth: dict, images: Path, file: Path) -> None:
    random, rows = np.random.default_rng(0), []
    for image in truth["images"]:
        size = image["height"], image["width"]
        codes = [
            a["segmentation"]
            for a in truth["annotations"]
            if a["image_id"] == image["id"] and not a["iscrowd"]
        ]
        objects = [mask for mask in (decode_mask(compress(code, size)) for code in codes) if mask.any()]
        pixels = np.asarray(Image.open(images / image["file_name"]).convert("RGB"))
        for counts in make_masks(pixels, objects, random):
            score = round(float(random.random()), 2)
            rows.append(
                {
                    "image_id": image["id"],
                    "category_id": 1,
                    "segmentation": {"size": list(size), "counts": counts},
                    "score": score,
                }
            )
    file.write_text(json.dumps(rows))


def evaluate_directly(annotations: Path, file: Path, library: str) -> dict[str, float]:
    """Evaluate with a library directly: COCO's protocol only, without this package's checks."""
    make_truth, make_evaluation = BACKEND_CLASSES[library]
    ground = make_truth(str(annotations))
    start = time.perf_counter()
    evaluation = make_evaluation(ground, ground.loadRes(str(file)), "segm")
    evaluation.params.useCats, evaluation.params.maxDets = 0, list(COCO_LIMITS)
    evaluation.evaluate()
    evaluation.accumulate()
    recall = evaluation.eval["recall"][:, 0]
    metrics = {f"AR@{limit}": float(recall[:, 0, index].mean()) for index, limit in enumerate(COCO_LIMITS)}
    metrics |= {
        f"AR@1000-{area}": float(recall[:, index, -1].mean())
        for index, area in enumerate(AREAS)
        if area != "all"
    }
    return metrics | {"seconds": time.perf_counter() - start}


def measure(method: str, annotations: Path, file: Path) -> dict[str, float]:
    """Return metrics and seconds from the results file on, after the truth was read."""
    if method.endswith("alone"):
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluate_directly(annotations, file, method.split()[0])
    truth = read_truth(annotations)
    start = time.perf_counter()
    metrics = average_recall(truth, read_results(file), method)
    return metrics | {"seconds": time.perf_counter() - start}


def main() -> None:
    folder = Path(sys.argv[1])
    file, root = folder / "results.json", data_root() / "coco"
    annotations = root / "annotations" / "instances_val2017.json"
    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[2], annotations, file)))
        return
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_results(read_truth(annotations), root / "val2017", file)
    print(f"{file.stat().st_size / 1e6:.0f} MB of results", flush=True)
    reference: dict[str, float] = {}
    for method in ("pycocotools alone", "faster alone", *BACKENDS):
        command = [sys.executable, __file__, str(folder), method]
        answers = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(REPEATS)
        ]
        seconds, answer = min(answer.pop("seconds") for answer in answers), answers[0]
        reference = reference or answer | {"seconds": seconds}
        same = (
            "identical"
            if all(answer[name] == reference[name] for name in reference if name != "seconds")
            else "DIFFERENT"
        )
        faster = reference["seconds"] / seconds
        print(
            f"| {method} | {seconds:.2f} s | {faster:.1f} x | AR@100 {answer['AR@100']:.6f} | {same} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
