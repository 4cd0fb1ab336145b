"""Score the groups of an embedding as segmentations of BSDS500: covering, probabilistic Rand index, VI.

    python benchmarks/regions.py run=<run> [split=val] [images=200] [bandwidths=0.15,0.2,0.25,0.3,0.35,0.45]
        [min_area=1500] [draw=<file>]

The run is one of `experiment=bsds loss.grouping_target=segments`, whose finest embedding separates the
segments of an annotator. Its points, averaged over cells of 4 x 4 pixels, are grouped by mean shift at each
bandwidth. A segment is a connected component of a group. Smaller ones than `min_area` pixels are given to the
nearest larger ones, as EDISON does. ODS takes one bandwidth for all images, OIS each image's best.
`draw` writes a sheet of the first eight images: image, an annotator, segments at the common bandwidth.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from region_metrics import RegionCounts, Segments, count_regions, region_metrics
from scipy import ndimage
from skimage.segmentation import mark_boundaries
from torch.nn import functional

from rpe.data.bsds import BsdsImages
from rpe.grouping import find_modes
from rpe.overlay import encode_png
from rpe.run import build_data
from rpe.run.trained import load_run
from rpe.segment.groups import GroupMap, drop_small_groups, label_pixels, split_components
from rpe.sphere import concentration_of_bandwidth, normalise
from rpe.structures import FeatureMap, pixel_centres
from rpe.task.boundary import BoundaryTask

OPTIONS = {
    "split": "val",
    "images": "200",
    "bandwidths": "0.15,0.2,0.25,0.3,0.35,0.45",
    "min_area": "1500",
    "draw": "",
}
STRIDE = 4
LOOPS = 10
MERGE_TOLERANCE = 0.01


def average_points(points: FeatureMap) -> FeatureMap:
    """Return the points of cells of `STRIDE` pixels."""
    factor = max(1, STRIDE // points.stride)
    values = functional.avg_pool2d(points.values, factor, ceil_mode=True)
    return FeatureMap(normalise(values.movedim(1, -1)).movedim(-1, 1), points.stride * factor)


def segment_image(points: FeatureMap, size: tuple[int, int], bandwidth: float, min_area: float) -> Segments:
    """Return the segments of one image at its original size."""
    rows, columns = points.values.shape[-2:]
    modes = find_modes(
        points.values[0].flatten(1).T,
        concentration_of_bandwidth(bandwidth),
        iterations=LOOPS,
        merge_tolerance=MERGE_TOLERANCE,
        move_tolerance=1e-4,
    )
    inside = torch.ones(rows, columns, dtype=torch.bool)
    groups = GroupMap(modes.labels.reshape(rows, columns) + 1, modes.points, inside)
    large = drop_small_groups(split_components(groups), min_area / points.stride**2)
    if not len(large.modes):
        return np.zeros(size, dtype=np.int64)
    nearest = ndimage.distance_transform_edt(
        large.labels.numpy() == 0, return_distances=False, return_indices=True
    )
    filled = GroupMap(large.labels[tuple(torch.from_numpy(nearest).long())], large.modes, inside)
    labels, _ = label_pixels(filled, points, pixel_centres(size, torch.device("cpu")), local=True)
    return labels.reshape(size).numpy()


def main() -> None:
    options = OPTIONS | dict(argument.split("=", 1) for argument in sys.argv[1:])
    bandwidths = [float(value) for value in options["bandwidths"].split(",")]
    config, task = load_run(options["run"])
    dataset = build_data(config).dataset(options["split"])
    assert isinstance(task, BoundaryTask) and isinstance(dataset, BsdsImages)
    counts: list[RegionCounts] = []
    rows: list[tuple[torch.Tensor, Segments, list[Segments]]] = []
    with torch.no_grad(), ProcessPoolExecutor(1) as counting:
        waiting = []
        for index in range(min(len(dataset), int(options["images"]))):
            sample = dataset[index]
            points = average_points(task.model.detect(sample.image[None]).points[0])
            segmentations = [
                segment_image(points, sample.size, bandwidth, float(options["min_area"]))
                for bandwidth in bandwidths
            ]
            annotators = list(sample.segments.numpy())
            waiting.append(counting.submit(count_regions, segmentations, annotators))
            if len(rows) < 8:
                rows.append((sample.image, annotators[0], segmentations))
            print(f"{index + 1}/{len(dataset)}", end="\r", file=sys.stderr, flush=True)
        counts = [one.result() for one in waiting]
    figures = region_metrics(counts, np.array(bandwidths))
    best = figures["covering-threshold"]
    print(f"{len(counts)} images of {options['split']}, bandwidth of the best covering {best:g}")
    print("| covering ODS | OIS | best | PRI ODS | OIS | VI ODS | OIS |\n" + "|---" * 7 + "|")
    keys = ("covering-ODS", "covering-OIS", "covering-best", "PRI-ODS", "PRI-OIS", "VI-ODS", "VI-OIS")
    print("| " + " | ".join(f"{figures[key]:.3f}" for key in keys) + " |")
    if options["draw"]:
        common = bandwidths.index(best)
        Path(options["draw"]).write_bytes(draw_sheet([(i, a, s[common]) for i, a, s in rows]))


def draw_sheet(rows: list[tuple[torch.Tensor, Segments, Segments]]) -> bytes:
    """Return a PNG: a row for each image, with image, an annotator's segments and ours outlined."""
    side = max(max(image.shape[1:]) for image, _, _ in rows)
    lines = []
    for image, truth, segments in rows:
        picture = image.permute(1, 2, 0).numpy()
        panels = [
            picture,
            *(mark_boundaries(picture, one, color=(1, 0, 0), mode="thick") for one in (truth, segments)),
        ]
        panels = [
            np.pad(one, ((0, side - one.shape[0]), (0, side - one.shape[1]), (0, 0)), constant_values=1)
            for one in panels
        ]
        lines.append(np.hstack(panels))
    return encode_png(np.round(255 * np.vstack(lines)).astype(np.uint8))


if __name__ == "__main__":
    main()
