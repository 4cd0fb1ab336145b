"""Recall against overlap and against the number of proposals, with the published points of the same protocol."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from rpe.metric.average_recall import AREAS, COCO_THRESHOLDS, VOC_THRESHOLDS, recall_table

NUMBERS = (1, 2, 3, 5, 10, 20, 30, 60, 100, 200, 300, 600, 1000)
"""Of proposals an image."""

OVERLAPS = np.linspace(0.5, 1.0, 51)


class Curve(NamedTuple):
    """Points that belong together: what lies along x, and the recall of each."""

    name: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]


PUBLISHED = {
    "AR": [
        Curve("DeepMask (published)", np.array([10.0, 100, 1000]), np.array([0.126, 0.245, 0.331])),
        Curve("SharpMask (published)", np.array([10.0, 100, 1000]), np.array([0.156, 0.276, 0.355])),
        Curve("SharpMask zoom2 (published)", np.array([100.0, 1000]), np.array([0.307, 0.408])),
        Curve("SAM ViT-B (published)", np.array([1000.0]), np.array([0.496])),
        Curve("UnSAM+ R50 (published)", np.array([1000.0]), np.array([0.522])),
    ],
    "AR_voc": [Curve("Kong and Fowlkes 2018, VOC 2012 val (published)", np.array([60.0]), np.array([0.814]))],
}
"""By protocol: on COCO val masks over IoU 0.5:0.05:0.95, and on VOC 2012 val over 0.5:0.05:1.0. Their splits and evaluators may differ."""

OFFICIAL = {"AR": ("coco", 5000), "AR_voc": ("voc", 1449)}
"""The data on which a protocol's points were published: their name, and how many images the whole val split has (val2017; VOC 2012's segmentation)."""


def published(protocol: str, name: str | None, split: str, images: int, all_categories: bool) -> list[Curve]:
    """The published points that may stand beside a figure of these data: none unless they are the official ones, whole, with all categories.

    Args:
        name: of the data.
        split: of it that was examined; test counts too, as neither of the two has a public one and val stands in.
        images: that were examined.
        all_categories: no category was left out.
    """
    official = (name, images) == OFFICIAL[protocol] and split != "train" and all_categories
    return PUBLISHED[protocol] if official else []


def recall_against_overlap(
    truth: dict[str, Any], results: list[dict[str, Any]], limits: Sequence[int]
) -> list[Curve]:
    """For each number of masks an image, the share of all objects that is found, against the IoU asked for (`OVERLAPS`); empty without objects.

    Raises:
        UserError: results that `check_results` refuses.
    """
    table = recall_table(truth, results, OVERLAPS, limits)[:, list(AREAS).index("all")]
    return [
        Curve(f"{limit} masks", OVERLAPS, table[:, index])
        for index, limit in enumerate(limits)
        if (table[:, index] > -1).all()
    ]


def recall_against_number(truth: dict[str, Any], results: list[dict[str, Any]], protocol: str) -> Curve:
    """Average recall of all objects against the number of masks an image (`NUMBERS`), by protocol: "AR" (COCO's) or "AR_voc" (VOC's); NaN
    without objects.

    Raises:
        UserError: results that `check_results` refuses.
    """
    thresholds = {"AR": COCO_THRESHOLDS, "AR_voc": VOC_THRESHOLDS}[protocol]
    table = recall_table(truth, results, thresholds, NUMBERS)[:, list(AREAS).index("all")]
    return Curve(protocol, np.array(NUMBERS, dtype=np.float64), np.where(table > -1, table, np.nan).mean(0))
