"""Tell where the points of nuclei are lost: missed, merged, split, inexact; by kind of image and density.

    python benchmarks/nuclei_errors.py evaluation=<folder> [split=val] [score_threshold=0.35]

The evaluation is a folder that evaluate.py run=<run> split=<split> wrote. Its proposals.json is read, with
the run's score threshold. Each true nucleus gets the first of these names that holds:

- exact: matched with a mask at IoU 0.9;
- boundary inexact: matched at IoU 0.5, but not at 0.9;
- merged: most of it lies in a mask that also covers most of another nucleus;
- split: two or more masks lie mostly in it and together cover most of it;
- displaced: a mask overlaps it by an IoU of 0.1 or more;
- missed: the others.

Extra are masks without a nucleus at IoU 0.5. AP50 and AP90 are pooled over the images of a row. Images are
sorted by their colours and annotations: dark fluorescence (grey, background darker than the nuclei), bright
field (grey, background brighter), stained tissue (coloured). Density is nuclei a megapixel of the image; the
three rows hold a third of the images each. Reads RPE_DATA_DIR/nuclei.
"""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from rpe.data.image import Reader
from rpe.data.module import data_root
from rpe.metric.instance_ap import compute_overlaps, label_maps, match_labels
from rpe.segment import select_instances

ERRORS = ("exact", "boundary inexact", "merged", "split", "displaced", "missed")
NEAR = 0.1
"""IoU from which a mask counts as a displaced one of the nucleus."""

COLOURED = 12
"""Mean difference of an image's colour channels, of 255, from which it is stained."""


def sort_objects(truth: np.ndarray, prediction: np.ndarray) -> Counter[str]:
    """Count the nuclei of an image by the names of this module, and its extra masks."""
    overlaps = compute_overlaps(truth, prediction)
    shared, truths, masks = overlaps.shared, overlaps.truths, overlaps.predictions

    def holding(pairs: np.ndarray) -> np.ndarray:
        return np.bincount(truths[pairs], minlength=overlaps.truth_count) > 0

    matched, exact = (match_labels(overlaps, iou) for iou in (0.5, 0.9))
    swallowed = 2 * shared > overlaps.truth_areas[truths]
    clumps = np.bincount(masks[swallowed], minlength=overlaps.prediction_count) > 1
    inside = 2 * shared > overlaps.prediction_areas[masks]
    parts = np.bincount(truths[inside], minlength=overlaps.truth_count)
    covered = np.bincount(truths[inside], shared[inside], overlaps.truth_count)
    tests = (
        holding(exact),
        holding(matched),
        holding(np.flatnonzero(swallowed & clumps[masks])),
        (parts > 1) & (2 * covered > overlaps.truth_areas),
        holding(np.flatnonzero(overlaps.ious >= NEAR)),
        np.ones(overlaps.truth_count, dtype=bool),
    )
    first = np.argmax(np.stack(tests), axis=0)
    counts = Counter({name: int((first == number).sum()) for number, name in enumerate(ERRORS)})
    return counts + Counter({"extra": overlaps.prediction_count - len(matched)})


def kind_of(pixels: np.ndarray, truth: np.ndarray) -> str:
    """Return the kind of an image [height, width, 3]."""
    values = pixels.astype(float)
    if np.ptp(values, axis=2).mean() > COLOURED:
        return "stained tissue"
    grey = values.mean(2)
    bright = grey[truth == 0].mean() > grey[truth > 0].mean()
    return "bright field" if bright else "dark fluorescence"


def print_row(name: str, images: list[Counter[str]]) -> None:
    """Print a row of the table from the counts of some images."""
    total = sum(images, Counter())
    nuclei = sum(total[error] for error in ERRORS)
    masks = nuclei + total["extra"]
    matched, exact = total["exact"] + total["boundary inexact"], total["exact"]
    # at 0.9 each inexact match is a miss and an extra mask
    precisions = [matched / max(1, masks), exact / max(1, masks + matched - exact)]
    shares = " | ".join(f"{total[error]:,} ({total[error] / max(1, nuclei):.1%})" for error in ERRORS)
    print(
        f"| {name} | {len(images)} | {nuclei:,} | {shares} | {total['extra']:,} | "
        f"{precisions[0]:.3f} | {precisions[1]:.3f} |"
    )


def main() -> None:
    options = {"split": "val", "score_threshold": "0.35"} | dict(
        argument.split("=", 1) for argument in sys.argv[1:]
    )
    if "evaluation" not in options:
        raise SystemExit("evaluation must be a folder that evaluate.py wrote. Add evaluation=<folder>.")
    root = data_root() / "nuclei"
    truth = json.loads((root / "annotations" / f"instances_{options['split']}.json").read_text())
    rows = json.loads((Path(options["evaluation"]) / "proposals.json").read_text())
    select = partial(select_instances, threshold=float(options["score_threshold"]))
    reader = Reader()
    counts, kinds, density = [], [], []
    for image, (labels, found) in zip(truth["images"], label_maps(truth, rows, select), strict=True):
        pixels = reader.read(root / options["split"] / image["file_name"]).permute(1, 2, 0).numpy()
        counts.append(sort_objects(labels, found))
        kinds.append(kind_of(pixels, labels))
        density.append(len(np.unique(labels[labels > 0])) / labels.size * 1e6)
    header = ("images", "how many", "nuclei", *ERRORS, "extra", "AP50", "AP90")
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    print_row("all", counts)
    for kind in sorted(set(kinds)):
        print_row(kind, [one for one, mine in zip(counts, kinds, strict=True) if mine == kind])
    for third in np.array_split(np.argsort(density, kind="stable"), 3):
        low, high = (density[place] for place in (third[0], third[-1]))
        print_row(f"{low:,.0f} to {high:,.0f} a megapixel", [counts[place] for place in third])


if __name__ == "__main__":
    main()
