"""A dataset in BSDS500's layout: landscape and portrait images, three people each."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import io

from rpe.data.thinning import segment_changes, thin


def annotations_of(size: tuple[int, int], people: int = 3) -> list[np.ndarray]:
    """Segments 1 .. n: a block, that everybody sees, moved by a pixel from one to the next, and a line that the last one alone sees."""
    maps = []
    for person in range(people):
        segments = np.ones(size, dtype=np.uint16)
        segments[8 + person : 30 + person, 10:36] = 2
        if person == people - 1:
            segments[:, 44:] = 3
        maps.append(segments)
    return maps


def write_annotations(file: Path, maps: list[np.ndarray]) -> None:
    cells = np.empty((1, len(maps)), dtype=object)
    for index, segments in enumerate(maps):
        boundaries = thin(segment_changes(segments.astype(np.int64))).astype(np.uint8)
        cells[0, index] = np.array(
            [[(segments, boundaries)]], dtype=[("Segmentation", object), ("Boundaries", object)]
        )
    io.savemat(file, {"groundTruth": cells}, do_compression=True)


def write_bsds(root: Path, images: int = 4) -> Path:
    random = np.random.default_rng(0)
    for offset, split in ((1000, "train"), (2000, "val"), (3000, "test")):
        for kind in ("images", "groundTruth"):
            (root / kind / split).mkdir(parents=True)
        for number in range(images):
            size = (48, 64) if number % 2 else (64, 48)
            maps = annotations_of(size)
            pixels = (maps[0][..., None] * np.array([90, 60, 30])).clip(0, 255) - random.integers(
                0, 20, (*size, 3)
            )
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                root / "images" / split / f"{offset + number}.jpg"
            )
            write_annotations(root / "groundTruth" / split / f"{offset + number}.mat", maps)
    return root
