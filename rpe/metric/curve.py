"""Compute recall against overlap and against the number of proposals, beside published values."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from rpe.metric.average_recall import AREAS, COCO_THRESHOLDS, VOC_THRESHOLDS, recall_table

NUMBERS = (1, 2, 3, 5, 10, 20, 30, 60, 100, 200, 300, 600, 1000)
"""Numbers of proposals per image at which average recall is computed."""

OVERLAPS = np.linspace(0.5, 1.0, 51)
"""IoU thresholds at which recall is computed."""


class RecallCurve(NamedTuple):
    """A named curve: positions along x, and the recall at each."""

    name: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]


PUBLISHED_RECALL = {
    "AR": [
        RecallCurve("DeepMask (published)", np.array([10.0, 100, 1000]), np.array([0.126, 0.245, 0.331])),
        RecallCurve("SharpMask (published)", np.array([10.0, 100, 1000]), np.array([0.156, 0.276, 0.355])),
        RecallCurve("SharpMask zoom2 (published)", np.array([100.0, 1000]), np.array([0.307, 0.408])),
        RecallCurve("SAM ViT-B (published)", np.array([1000.0]), np.array([0.496])),
        RecallCurve("UnSAM+ R50 (published)", np.array([1000.0]), np.array([0.522])),
    ],
    "AR_voc": [
        RecallCurve("Kong and Fowlkes 2018, VOC 2012 val (published)", np.array([60.0]), np.array([0.814]))
    ],
}
"""Published values by protocol: COCO val masks over IoU 0.5:0.05:0.95, and VOC 2012 val over 0.5:0.05:1.0.

Their splits and evaluators may differ.
"""

OFFICIAL_DATA = {"AR": ("coco", 5000), "AR_voc": ("voc", 1449)}
"""The data behind the published values: name, and number of images of the whole val split.

These are COCO val2017 and VOC 2012 segmentation.
"""


def select_published(
    protocol: str, name: str | None, split: str, images: int, all_categories: bool
) -> list[RecallCurve]:
    """Return the published curves that are comparable with a metric of these data.

    Empty unless the data are the official ones, complete, with all categories.

    Args:
        protocol: "AR" or "AR_voc".
        name: name of the data.
        split: the evaluated split. "test" counts too: neither dataset has a public one, and val stands in.
        images: number of evaluated images.
        all_categories: True if no category was left out.
    """
    official = (name, images) == OFFICIAL_DATA[protocol] and split != "train" and all_categories
    return PUBLISHED_RECALL[protocol] if official else []


def recall_against_overlap(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], limits: Sequence[int]
) -> list[RecallCurve]:
    """Return one curve per number of masks per image: the share of objects found, against IoU (`OVERLAPS`).

    Empty without objects.

    Raises:
        UserError: `check_results` refuses the results.
    """
    table = recall_table(truth, results, OVERLAPS, limits)[:, list(AREAS).index("all")]
    return [
        RecallCurve(f"{limit} masks", OVERLAPS, table[:, index])
        for index, limit in enumerate(limits)
        if (table[:, index] > -1).all()
    ]


def recall_against_number(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], protocol: str
) -> RecallCurve:
    """Return average recall against the number of masks per image (`NUMBERS`); NaN without objects.

    Args:
        truth, results: see `average_recall`.
        protocol: "AR" for COCO's thresholds, "AR_voc" for VOC's.

    Raises:
        UserError: `check_results` refuses the results.
    """
    thresholds = {"AR": COCO_THRESHOLDS, "AR_voc": VOC_THRESHOLDS}[protocol]
    table = recall_table(truth, results, thresholds, NUMBERS)[:, list(AREAS).index("all")]
    return RecallCurve(
        protocol, np.array(NUMBERS, dtype=np.float64), np.where(table > -1, table, np.nan).mean(0)
    )
