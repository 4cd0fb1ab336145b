"""Ranked masks take objects, one each: COCO's greedy matching for all thresholds at once, as the rank at which each object is taken."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

NEVER = np.iinfo(np.int64).max
"""The rank of an object that no mask takes."""

NEARLY_ONE = 1 - 1e-10
"""pycocotools asks of a threshold of 1 no more than this."""


class Pairs(NamedTuple):
    """Masks and objects of the same image that overlap: the mask, its rank in its image (0 is best), the object, their IoU.

    Masks are numbered so that a better ranked one of the same image has the smaller number; of two objects that a mask overlaps
    equally, it takes the one with the larger number (as pycocotools).
    """

    masks: Int64[np.ndarray, " pair"]
    ranks: Int64[np.ndarray, " pair"]
    objects: Int64[np.ndarray, " pair"]
    ious: Float[np.ndarray, " pair"]


def matched_rank(
    pairs: Pairs, thresholds: Float[np.ndarray, " threshold"], counted: Bool[np.ndarray, "area object"]
) -> Int64[np.ndarray, "area threshold object"]:
    """At which rank each object is taken, `NEVER` where it is not.

    The best ranked mask chooses first: of the objects that are still free, of the range and overlapped by the threshold or more, the one it
    overlaps most. Objects outside the range (`counted` is False; crowds are in none) never keep a mask from one inside, and masks beyond
    a limit never change what those within it took, so that one matching serves all limits.
    """
    areas, objects = counted.shape
    taken = np.full((areas, len(thresholds), objects), NEVER)
    thresholds = np.minimum(thresholds, NEARLY_ONE)
    enough = pairs.ious >= thresholds.min(initial=NEARLY_ONE)
    pairs = Pairs(*(part[enough] for part in pairs))
    choosy = has_choice(pairs, objects)
    for index, threshold in enumerate(thresholds):
        sure = ~choosy & (pairs.ious >= threshold)
        best = np.full(objects, NEVER)
        np.minimum.at(best, pairs.objects[sure], pairs.ranks[sure])
        taken[:, index] = best
    taken[np.broadcast_to(~counted[:, None], taken.shape)] = NEVER
    order = np.nonzero(choosy)[0]
    order = order[np.lexsort((pairs.objects[order], pairs.ious[order], pairs.masks[order]))]
    cuts = np.nonzero(np.diff(pairs.masks[order]))[0] + 1
    for mine in np.split(order, cuts) if len(order) else []:
        for area in range(areas):
            take(taken[area], pairs, mine[counted[area, pairs.objects[mine]]], thresholds)
    return taken


def has_choice(pairs: Pairs, objects: int) -> Bool[np.ndarray, " pair"]:
    """Pairs of objects that some mask might leave for another: those of masks with two pairs, and all others of these masks' objects.

    The other objects go to the best ranked mask that overlaps them enough, whatever the rest do.
    """
    masks = np.unique(pairs.masks, return_inverse=True)[1]
    contested = np.bincount(masks, minlength=1)[masks] > 1
    shared = np.zeros(objects, dtype=bool)
    shared[pairs.objects[contested]] = True
    return shared[pairs.objects]


def take(
    taken: Int64[np.ndarray, "threshold object"],
    pairs: Pairs,
    mine: Int64[np.ndarray, " pair_of_mask"],
    thresholds: Float[np.ndarray, " threshold"],
) -> None:
    """One mask's choice at every threshold; its pairs come with the best last."""
    if not len(mine):
        return
    objects = pairs.objects[mine]
    free = (taken[:, objects] == NEVER) & (pairs.ious[mine] >= thresholds[:, None])
    best = len(mine) - 1 - free[:, ::-1].argmax(1)
    chosen = np.nonzero(free.any(1))[0]
    taken[chosen, objects[best[chosen]]] = pairs.ranks[mine[0]]
