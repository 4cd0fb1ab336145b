"""Ranked masks that overlap -> one label map."""

import numpy as np
from jaxtyping import Int64

from rpe.structures import BACKGROUND, Proposals, decode_mask


def select_instances(proposals: Proposals, threshold: float) -> Int64[np.ndarray, "height width"]:
    """The one label map that pictures and per-image figures use: 0 where no proposal claims a pixel.

    Best score first, each takes the unclaimed pixels of its mask; it is dropped when its score is below the threshold or less than half
    of its mask is left.
    """
    label = np.full(proposals.size, BACKGROUND, dtype=np.int64)
    number = BACKGROUND
    for mask, score in zip(proposals.masks, proposals.scores, strict=True):
        if score < threshold:
            continue
        whole = decode_mask(mask)
        free = whole & (label == BACKGROUND)
        if 2 * free.sum() >= whole.sum() and free.any():
            number += 1
            label[free] = number
    return label
