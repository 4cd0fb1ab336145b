"""Select instances: paint ranked masks that overlap into one label map."""

import numpy as np
from jaxtyping import Int64

from rpe.rle import decode_mask, mask_area, mask_box
from rpe.structures import BACKGROUND, Proposals


def select_instances(proposals: Proposals, threshold: float) -> Int64[np.ndarray, "height width"]:
    """Return the label map that pictures and per-image metrics use: 0 where no proposal claims a pixel.

    In the order of the scores, each mask claims its unclaimed pixels. It is dropped if its score is below the
    threshold, or if less than half of its pixels are unclaimed.
    """
    return select_proposals(proposals, threshold)[0]


def select_proposals(
    proposals: Proposals, threshold: float
) -> tuple[Int64[np.ndarray, "height width"], list[int]]:
    """Return the label map of `select_instances`, and the index of the proposal with label 1, 2, .."""
    # column by column, as masks are decoded
    label = np.full(proposals.size, BACKGROUND, dtype=np.int64, order="F")
    chosen: list[int] = []
    for index, (mask, score) in enumerate(zip(proposals.masks, proposals.scores, strict=True)):
        if score < threshold:
            continue
        # work inside the mask's box only, as an image may have a thousand masks
        area = mask_area(mask)
        left, top, width, height = mask_box(mask)
        box = (slice(top, top + height), slice(left, left + width))
        unclaimed = label[box] == BACKGROUND
        if 2 * np.count_nonzero(unclaimed) < area:
            continue
        free = decode_mask(mask)[box] & unclaimed
        if 2 * np.count_nonzero(free) >= area and free.any():
            chosen.append(index)
            label[box][free] = BACKGROUND + len(chosen)
    return np.ascontiguousarray(label), chosen
