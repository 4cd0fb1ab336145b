"""Match ranked masks to objects by COCO's greedy rule, for all thresholds at once.

The result is the rank at which each object is matched, so one matching serves all limits of masks per image.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

UNMATCHED = np.iinfo(np.int64).max
"""The rank of an object without a matching mask."""

NEARLY_ONE = 1 - 1e-10
"""pycocotools lowers a threshold of 1 to this value."""


class Pairs(NamedTuple):
    """Overlapping masks and objects of the same image: mask, its rank (0 is best), object, IoU.

    Within an image, better ranked masks have smaller numbers. Of two objects that a mask overlaps equally,
    the one with the larger number is matched, as in pycocotools.
    """

    masks: Int64[np.ndarray, " pair"]
    ranks: Int64[np.ndarray, " pair"]
    objects: Int64[np.ndarray, " pair"]
    ious: Float[np.ndarray, " pair"]


def matched_rank(
    pairs: Pairs, thresholds: Float[np.ndarray, " threshold"], counted: Bool[np.ndarray, "area object"]
) -> Int64[np.ndarray, "area threshold object"]:
    """Return the rank at which each object is matched; `UNMATCHED` where it is not.

    The best ranked mask chooses first. It takes the object with the largest IoU among the objects that are
    free, in the area range, and overlapped by at least the threshold. Objects outside the range (`counted` is
    False; crowds are in no range) never block a mask from one inside. Masks beyond a limit never change the
    matches of better ranked ones, so one matching serves all limits.
    """
    areas, objects = counted.shape
    taken = np.full((areas, len(thresholds), objects), UNMATCHED)
    thresholds = np.minimum(thresholds, NEARLY_ONE)
    enough = pairs.ious >= thresholds.min(initial=NEARLY_ONE)
    pairs = Pairs(*(part[enough] for part in pairs))
    contested = find_contested(pairs, objects)
    for index, threshold in enumerate(thresholds):
        sure = ~contested & (pairs.ious >= threshold)
        best = np.full(objects, UNMATCHED)
        np.minimum.at(best, pairs.objects[sure], pairs.ranks[sure])
        taken[:, index] = best
    taken[np.broadcast_to(~counted[:, None], taken.shape)] = UNMATCHED
    order = np.nonzero(contested)[0]
    order = order[np.lexsort((pairs.objects[order], pairs.ious[order], pairs.masks[order]))]
    cuts = np.nonzero(np.diff(pairs.masks[order]))[0] + 1
    for mine in np.split(order, cuts) if len(order) else []:
        for area in range(areas):
            take_objects(taken[area], pairs, mine[counted[area, pairs.objects[mine]]], thresholds)
    return taken


def find_contested(pairs: Pairs, objects: int) -> Bool[np.ndarray, " pair"]:
    """Return the pairs whose mask may have to choose.

    These are the pairs of masks with two or more, and all pairs of the objects of these masks. Every other
    object goes to the best ranked mask that overlaps it enough.
    """
    masks = np.unique(pairs.masks, return_inverse=True)[1]
    contested = np.bincount(masks, minlength=1)[masks] > 1
    shared = np.zeros(objects, dtype=bool)
    shared[pairs.objects[contested]] = True
    return shared[pairs.objects]


def take_objects(
    taken: Int64[np.ndarray, "threshold object"],
    pairs: Pairs,
    mine: Int64[np.ndarray, " pair_of_mask"],
    thresholds: Float[np.ndarray, " threshold"],
) -> None:
    """Match one mask at every threshold; its pairs are sorted by ascending preference."""
    if not len(mine):
        return
    objects = pairs.objects[mine]
    free = (taken[:, objects] == UNMATCHED) & (pairs.ious[mine] >= thresholds[:, None])
    best = len(mine) - 1 - free[:, ::-1].argmax(1)
    chosen = np.nonzero(free.any(1))[0]
    taken[chosen, objects[best[chosen]]] = pairs.ranks[mine[0]]
