"""Label maps of predict.py on real nuclei, scored by StarDist's rules: they give the AP of evaluate.py."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import linear_sum_assignment

import evaluate
import predict
from rpe.data.module import data_root
from rpe.rle import decode_mask

WEIGHTS = Path(__file__).parents[2] / "weights" / "nuclei"
NUCLEI = data_root() / "nuclei"
IMAGES = 20


def stardist_counts(truth: np.ndarray, found: np.ndarray, threshold: float) -> np.ndarray:
    """TP, FP and FN of two label maps by stardist.matching: an optimal assignment, ties by IoU."""
    shared = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(shared, (truth, found), 1)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    ious = (shared / np.maximum(union, 1))[1:, 1:]
    pairs = linear_sum_assignment(-(ious >= threshold).astype(float) - ious / (2 * max(1, *ious.shape)))
    hits = np.count_nonzero(ious[pairs] >= threshold)
    return np.array([hits, found.max() - hits, truth.max() - hits], dtype=float)


@pytest.mark.slow
@pytest.mark.skipif(not NUCLEI.is_dir(), reason="RPE_DATA_DIR holds no nuclei")
def test_label_maps_have_the_figures_of_evaluation(command_line: Callable[..., None], tmp_path: Path) -> None:
    whole = json.loads((NUCLEI / "annotations" / "instances_val.json").read_text())
    images = sorted(whole["images"], key=lambda image: int(image["id"]))[:IMAGES]
    files = ",".join(str(NUCLEI / "val" / image["file_name"]) for image in images)
    command_line(predict.main, f"run={WEIGHTS}", f"images=[{files}]", f"output={tmp_path / 'found'}")
    command_line(
        evaluate.main,
        f"run={WEIGHTS}",
        f"trainer.limit_test_batches={IMAGES}",
        f"hydra.run.dir={tmp_path / 'evaluated'}",
    )
    figures = json.loads((tmp_path / "evaluated" / "metrics.json").read_text())["metrics"]
    assert figures["images"] == IMAGES
    maps = []
    for image in images:
        truth = np.zeros((image["height"], image["width"]), dtype=np.int64)
        rows = [row for row in whole["annotations"] if row["image_id"] == image["id"]]
        for number, row in enumerate(rows, start=1):
            truth[decode_mask(row["segmentation"])] = number
        file = tmp_path / "found" / "labels" / f"{Path(image['file_name']).stem}.png"
        maps.append((truth, np.array(Image.open(file)).astype(np.int64)))
    for threshold in (0.5, 0.7, 0.9):
        counts = [stardist_counts(truth, found, threshold) for truth, found in maps]
        name = f"AP{round(100 * threshold)}"
        assert np.mean([one[0] / one.sum() for one in counts]) == pytest.approx(figures[name], abs=0.002)
        total = np.sum(counts, axis=0)
        assert total[0] / total.sum() == pytest.approx(figures[f"{name}-pooled"], abs=0.002)
