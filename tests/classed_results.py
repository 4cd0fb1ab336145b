"""Results with categories: perfect ones, noisy ones, and their precision by pycocotools as anybody calls it."""

import contextlib
import io
import json

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rpe.rle import decode_mask, encode_mask


def oracle(truth: dict) -> list[dict]:
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "segmentation": a["segmentation"],
            "score": 0.9,
        }
        for a in truth["annotations"]
        if not a.get("void", False)
    ]


def noisy(truth: dict, seed: int) -> list[dict]:
    """Shifted masks, some of another class, some twice, scores at random."""
    random = np.random.default_rng(seed)
    rows = []
    for row in oracle(truth) * 2:
        mask = np.roll(decode_mask(row["segmentation"]), random.integers(-1, 2, 2), (0, 1))
        category = row["category_id"] if random.random() < 0.7 else int(random.integers(1, 11))
        rows.append(
            row
            | {"category_id": category, "segmentation": encode_mask(mask), "score": float(random.random())}
        )
    return rows


def by_hand(truth: dict, rows: list[dict]) -> dict[int, np.ndarray]:
    """pycocotools as anybody calls it, with its own settings, a class at a time."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = json.loads(json.dumps(truth))
        ground.createIndex()
        found = ground.loadRes(json.loads(json.dumps(rows)))
        precision = {}
        for category in sorted({a["category_id"] for a in truth["annotations"]}):
            evaluation = COCOeval(ground, found, "segm")
            evaluation.params.catIds = [category]
            evaluation.evaluate()
            evaluation.accumulate()
            precision[category] = evaluation.eval["precision"][:, :, 0, 0, 2].mean(1)
    return precision
