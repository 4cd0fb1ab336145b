"""What a network makes of the tiles of an image: objects, with the modes by which neighbouring tiles know them again; or a boundary map."""

import math
from contextlib import AbstractContextManager

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from rpe.network.embedding import Embedding
from rpe.network.head import Classifier
from rpe.segment import Piece, class_components, class_probability, image_of, selected
from rpe.segment.classes import means_inside
from rpe.sphere import normalise
from rpe.structures import FeatureMap, Instances, Proposals, pixel_centres
from rpe.task.boundary import BoundaryTask
from rpe.task.instance import InstanceTask

GRID = 64
"""Tiles start at multiples of it, so that a network's own grids, which halve up to five times from a stride of 2, lie the same in all tiles."""

PORTION = 65536
"""Pixels whose points are looked up at a time, to bound the memory."""


def multiple_of(network: torch.nn.Module) -> int:
    """The step in pixels after which the network says the same of the same place: of its grids and of the coordinates that its embedding knows."""
    embeddings = [part for part in network.modules() if isinstance(part, Embedding) and part.coordinates != "none"]
    return math.lcm(GRID, *(period for part in embeddings for period in part.periods))


def half(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[None]:
    """The network alone runs in this precision; None is fp32."""
    return torch.autocast(device.type, dtype=precision or torch.bfloat16, enabled=precision is not None)


@torch.no_grad()
def pieces_of(task: InstanceTask, images: Float[Tensor, "batch 3 height width"], size: tuple[int, int], precision: torch.dtype | None) -> list[Piece]:
    """The objects of each tile, its images in [0, 1], on a map of `size` (height, width), the tile's own, or the original's where an image was made smaller.

    The masks are those that evaluation's label map has: `select_instances` of the run's proposals; a network that groups nothing has the connected parts
    of its classes.
    """
    network_size = (images.shape[2], images.shape[3])
    pixels = images.to(task.device)
    if not task.groups:
        with half(task.device, precision):
            logits = task.model.classify(pixels)
        return [class_piece(task, FeatureMap(one[None].float(), logits.stride), network_size, size) for one in logits.values]
    with half(task.device, precision):
        embedded = task.model.embed(pixels)
    pieces = []
    for index in range(len(images)):
        one = image_of(embedded, index)
        proposals = task.proposal(one, network_size, size, task.model.ranker)
        labels, chosen = selected(proposals, task.proposal.least_score)
        classes = np.zeros(len(chosen), dtype=np.int64)
        if one.classes is not None and chosen:
            classes = classes_of(proposals, chosen, class_probability(one.classes, network_size, size))
        pieces.append(Piece(labels.astype(np.int32), proposals.scores[chosen], modes_of(labels, len(chosen), one.points, network_size), classes))
    return pieces


def classes_of(proposals: Proposals, chosen: list[int], probability: Float[np.ndarray, "class height width"]) -> Int64[np.ndarray, " object"]:
    """The likeliest class inside of each chosen proposal, as `classified` has it."""
    means = means_inside([proposals.masks[index] for index in chosen], probability)
    return means[:, 1:].argmax(1) + 1


def class_piece(task: InstanceTask, logits: FeatureMap, network_size: tuple[int, int], size: tuple[int, int]) -> Piece:
    """The connected parts of the class map; the mode of each is its class, as nothing else is known of it."""
    probability = class_probability(logits, network_size, size)
    parts: Instances = class_components(probability, task.proposal.minimum_area)
    labels, chosen = selected(parts, task.proposal.least_score)
    classes = parts.classes[chosen]
    return Piece(labels.astype(np.int32), parts.scores[chosen], np.eye(len(probability))[classes], classes)


def modes_of(labels: Int64[np.ndarray, "_ _"], objects: int, points: FeatureMap, network_size: tuple[int, int]) -> Float[np.ndarray, "object dim"]:
    """The mean direction of each object's points."""
    device, (height, width) = points.values.device, labels.shape
    flat = torch.from_numpy(labels).flatten().to(device)
    where = (flat > 0).nonzero()[:, 0]
    ratio = torch.tensor([network_size[0] / height, network_size[1] / width], device=device)
    positions = pixel_centres((height, width), device)[where] * ratio
    total = torch.zeros(objects, points.values.shape[1], device=device)
    for part, mine in zip(positions.split(PORTION), flat[where].split(PORTION), strict=True):
        total.index_add_(0, mine - 1, points.at(part[None])[0].float())
    return normalise(total).double().cpu().numpy()


@torch.no_grad()
def boundaries_of(task: BoundaryTask, image: Float[Tensor, "3 height width"], precision: torch.dtype | None) -> UInt8[np.ndarray, "height width"]:
    """The boundary map of a tile, as evaluation makes it."""
    with half(task.device, precision):
        return task.detection(task.detector.detect, image.to(task.device))


def categories_of(task: InstanceTask) -> dict[int, str]:
    """The ids and names of class 1, 2, .. in the data that taught them; none where the head knows no classes."""
    return task.examiner.categories if isinstance(task.model.objectness, Classifier) and task.examiner is not None else {}
