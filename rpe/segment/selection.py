"""Ranked masks that overlap -> one label map."""

import numpy as np
from jaxtyping import Int64
from pycocotools import mask as coco_mask

from rpe.structures import BACKGROUND, Proposals, decode_mask


def select_instances(proposals: Proposals, threshold: float) -> Int64[np.ndarray, "height width"]:
    """The one label map that pictures and per-image figures use: 0 where no proposal claims a pixel.

    Best score first, each takes the unclaimed pixels of its mask; it is dropped when its score is below the threshold or less than half
    of its mask is left.
    """
    return selected(proposals, threshold)[0]


def selected(proposals: Proposals, threshold: float) -> tuple[Int64[np.ndarray, "height width"], list[int]]:
    """The same, and which proposal each label 1, 2, .. is."""
    # column by column, as masks are decoded
    label = np.full(proposals.size, BACKGROUND, dtype=np.int64, order="F")
    chosen: list[int] = []
    for index, (mask, score) in enumerate(zip(proposals.masks, proposals.scores, strict=True)):
        if score < threshold:
            continue
        # only inside its box, as an image may have a thousand
        area, (left, top, width, height) = (
            int(coco_mask.area(mask)),
            coco_mask.toBbox(mask).astype(np.int64).tolist(),
        )
        box = (slice(top, top + height), slice(left, left + width))
        unclaimed = label[box] == BACKGROUND
        if 2 * np.count_nonzero(unclaimed) < area:
            continue
        free = decode_mask(mask)[box] & unclaimed
        if 2 * np.count_nonzero(free) >= area and free.any():
            chosen.append(index)
            label[box][free] = BACKGROUND + len(chosen)
    return np.ascontiguousarray(label), chosen
