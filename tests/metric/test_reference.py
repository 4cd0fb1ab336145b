"""What the two libraries leave out without a word is scored here: an id of 0, a category that is not listed, a class of the results."""

import numpy as np
import pytest

from rpe.metric.reference import BACKEND_CLASSES, reference_table
from rpe.rle import encode_mask

AREAS = [(0.0, 1e10), (0.0, 20.0)]


def scene() -> tuple[dict, list[dict]]:
    masks = [np.zeros((8, 8), dtype=bool) for _ in range(2)]
    masks[0][:4, :4], masks[1][4:, 2:] = True, True
    annotations = [
        {
            "id": index,
            "image_id": 1,
            "category_id": 50 + index,
            "area": float(mask.sum()),
            "bbox": [0, 0, 1, 1],
            "segmentation": encode_mask(mask),
        }
        for index, mask in enumerate(masks)
    ]
    rows = [
        {"image_id": 1, "category_id": 99, "segmentation": encode_mask(mask), "score": 1.0} for mask in masks
    ]
    return {
        "images": [{"id": 1, "height": 8, "width": 8}],
        "annotations": annotations,
        "categories": [{"id": 50, "name": "only"}],
    }, rows


@pytest.mark.parametrize("backend", list(BACKEND_CLASSES))
def test_all_objects_count(backend: str) -> None:
    truth, rows = scene()
    before = repr((truth, rows))
    recall = reference_table(truth, rows, np.array([0.5, 1.0]), AREAS, [1, 10], backend)
    assert recall[:, 0].tolist() == [[0.5, 1.0]] * 2 and recall[:, 1].tolist() == [[1.0, 1.0]] * 2
    assert repr((truth, rows)) == before, "what is given stays as it is"
