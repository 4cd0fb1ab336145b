"""The class of each mask by the mean probability inside it, and the masks that the class map makes by itself."""

import numpy as np
import torch
from jaxtyping import Float
from skimage.measure import label as connected_regions

from rpe.segment.groups import PORTION
from rpe.structures import BACKGROUND, FeatureMap, Geometry, Proposals, RunLength, decode_mask, encode_labels

Probability = Float[np.ndarray, "class height width"]
"""Of each class at each pixel of the original image, the background first."""


@torch.no_grad()
def class_probability(logits: FeatureMap, geometry: Geometry) -> Probability:
    """Return the softmax of one image's class logits (the background's first), which are bilinear between the cells."""
    positions = geometry.centres(logits.values.device)
    parts = [logits.at(part[None])[0].float().softmax(-1).T.cpu() for part in positions.split(PORTION)]
    return torch.cat(parts, 1).reshape(-1, *geometry.size).numpy()


def classified(proposals: Proposals, probability: Probability) -> Proposals:
    """Each mask with the object class that is likeliest inside it, in the order of the new scores.

    The score is the product of the mask's own, its quality, and the mean probability of the class over the mask: a good mask of an unsure class and a
    poor one of a sure class both stand behind a good one of a sure class.
    """
    means = means_inside(proposals.masks, probability)[:, 1:]
    classes = means.argmax(1) + 1
    scores = proposals.scores * means.max(1, initial=0)
    order = np.argsort(-scores, kind="stable")
    return Proposals(
        [proposals.masks[index] for index in order], scores[order], proposals.size, classes[order]
    )


def means_inside(masks: list[RunLength], probability: Probability) -> Float[np.ndarray, "mask class"]:
    """The mean of each class over each mask; 0 over an empty one.

    By differences of running sums over the pixels, column by column as run lengths count them, so that a mask costs its borders, not its area: an image
    may have a thousand large ones.
    """
    running = np.zeros((probability[0].size + 1, len(probability)))
    np.cumsum(probability.transpose(2, 1, 0).reshape(-1, len(probability)), axis=0, out=running[1:])
    means = np.zeros((len(masks), len(probability)))
    for row, mask in enumerate(masks):
        borders = np.flatnonzero(np.diff(decode_mask(mask).ravel(order="F"), prepend=False, append=False))
        starts, ends = borders[::2], borders[1::2]
        means[row] = (running[ends] - running[starts]).sum(0) / max(1, int((ends - starts).sum()))
    return means


def class_components(probability: Probability, min_area: int) -> Proposals:
    """What the classes alone make of objects: the connected parts of each class in the map of the likeliest ones (pixels that touch at a side or corner).

    Scored by the mean probability of the class inside; parts of fewer than `min_area` pixels are none. Touching objects of a class are one.
    """
    classes = probability.argmax(0)
    regions, count = connected_regions(classes, background=BACKGROUND, connectivity=2, return_num=True)
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    sure = np.bincount(regions.ravel(), weights=probability.max(0).ravel(), minlength=count + 1) / np.maximum(
        areas, 1
    )
    class_of = np.zeros(count + 1, dtype=np.int64)
    class_of[regions.ravel()] = classes.ravel()
    large = np.nonzero(areas[1:] >= max(1, min_area))[0] + 1
    order = large[np.argsort(-sure[large], kind="stable")]
    return Proposals(
        encode_labels(regions.astype(np.int64), order),
        sure[order],
        (classes.shape[0], classes.shape[1]),
        class_of[order],
    )
