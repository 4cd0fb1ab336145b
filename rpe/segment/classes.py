"""Classify masks by the mean class probability inside them, and build masks from the class map alone."""

import numpy as np
import torch
from jaxtyping import Float
from skimage.measure import label as connected_regions

from rpe.rle import decode_mask, encode_labels
from rpe.segment.groups import PIXELS_PER_CHUNK
from rpe.structures import BACKGROUND, FeatureMap, Geometry, Proposals, RunLength

Probability = Float[np.ndarray, "class height width"]
"""Probability of each class at each pixel of the original image, background first."""


@torch.no_grad()
def class_probability(logits: FeatureMap, geometry: Geometry) -> Probability:
    """Return the softmax of one image's class logits, interpolated bilinearly to the original pixels."""
    positions = geometry.centres(logits.values.device)
    chunks = positions.split(PIXELS_PER_CHUNK)
    parts = [logits.at(chunk[None])[0].float().softmax(-1).T.cpu() for chunk in chunks]
    return torch.cat(parts, 1).reshape(-1, *geometry.size).numpy()


def classify_masks(proposals: Proposals, probability: Probability) -> Proposals:
    """Return the masks with their likeliest object classes, sorted by their new scores.

    The new score is the mask's own score times the mean probability of the class over the mask. A good mask
    of an unsure class and a poor mask of a sure class both rank below a good mask of a sure class.
    """
    means = average_inside(proposals.masks, probability)[:, 1:]
    classes = means.argmax(1) + 1
    scores = proposals.scores * means.max(1, initial=0)
    order = np.argsort(-scores, kind="stable")
    return Proposals(
        [proposals.masks[index] for index in order], scores[order], proposals.size, classes[order]
    )


def average_inside(masks: list[RunLength], probability: Probability) -> Float[np.ndarray, "mask class"]:
    """Return the mean probability of each class over each mask; 0 for an empty mask.

    Running sums over the pixels, column by column as run lengths count them, make the cost of a mask its
    border, not its area. An image may have a thousand large masks.
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
    """Return the connected components of each class in the map of likeliest classes, as masks.

    Pixels are connected at a side or corner. The score is the mean probability of the class inside.
    Components smaller than `min_area` pixels are dropped. Touching objects of one class make one mask.
    """
    classes = probability.argmax(0)
    regions, count = connected_regions(classes, background=BACKGROUND, connectivity=2, return_num=True)
    flat = regions.ravel()
    areas = np.bincount(flat, minlength=count + 1)
    sums = np.bincount(flat, weights=probability.max(0).ravel(), minlength=count + 1)
    scores = sums / np.maximum(areas, 1)
    region_class = np.zeros(count + 1, dtype=np.int64)
    region_class[flat] = classes.ravel()
    large = np.nonzero(areas[1:] >= max(1, min_area))[0] + 1
    order = large[np.argsort(-scores[large], kind="stable")]
    return Proposals(
        encode_labels(regions.astype(np.int64), order),
        scores[order],
        (classes.shape[0], classes.shape[1]),
        region_class[order],
    )
