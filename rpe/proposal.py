"""Points and objectness of one image -> ranked masks at its original size; ranked masks -> one label map."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from pycocotools import mask as coco_mask
from torch import Tensor

from rpe.grouping import find_modes
from rpe.sphere import check_bandwidth, concentration_of_bandwidth, normalise
from rpe.structures import BACKGROUND, Embedded, FeatureMap, InputError, Modes, Proposals, decode_mask, encode_mask, pixel_centres

PORTION = 65536
"""Pixels that are compared with the modes at a time, to bound the memory."""


def image_of(embedded: Embedded, index: int) -> Embedded:
    """One image of a batch."""
    points, objectness = embedded.points, embedded.objectness
    return Embedded(FeatureMap(points.values[index : index + 1], points.stride), FeatureMap(objectness.values[index : index + 1], objectness.stride))


class Proposer:
    """Groups the foreground by mean shift and makes each group a mask.

    These are inference's own settings, never inherited from what training unrolls.

    Args:
        bandwidths: one partition of the foreground for each; near-duplicates among their masks are removed.
        iterations: the most loops.
        merge_tolerance, move_tolerance: see `find_modes`.
        keys: see `find_modes`.
        foreground: probability of objectness from which a pixel takes part, in (0, 1).
        minimum_area: masks of fewer original pixels are left out.
        duplicate_iou: of two masks that overlap by more, the better scored stays.
        maximum: masks of an image.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(
        self,
        bandwidths: list[float],
        iterations: int,
        merge_tolerance: float,
        move_tolerance: float,
        keys: int | None,
        foreground: float,
        minimum_area: int,
        duplicate_iou: float,
        maximum: int,
    ) -> None:
        if not bandwidths:
            raise InputError("proposal.bandwidths is empty: name one or more, such as [0.2]")
        if iterations < 0:
            raise InputError(f"proposal.iterations {iterations} is negative")
        if not 0 < foreground < 1:
            raise InputError(f"proposal.foreground {foreground} is outside (0, 1): it is a probability")
        self.concentrations = [concentration_of_bandwidth(check_bandwidth(bandwidth)) for bandwidth in bandwidths]
        self.iterations, self.merge_tolerance, self.move_tolerance, self.keys = iterations, merge_tolerance, move_tolerance, keys
        self.foreground, self.minimum_area = foreground, minimum_area
        self.duplicate_iou, self.maximum = duplicate_iou, maximum

    def modes(self, points: Float[Tensor, "pixel dim"], concentration: float) -> Modes:
        """The modes of some pixels under this proposer's settings."""
        return find_modes(
            points,
            concentration,
            iterations=self.iterations,
            merge_tolerance=self.merge_tolerance,
            move_tolerance=self.move_tolerance,
            keys=self.keys,
        )

    @torch.no_grad()
    def partitions(
        self, embedded: Embedded, network_size: tuple[int, int], size: tuple[int, int]
    ) -> tuple[list[Int64[np.ndarray, "height width"]], list[Float[np.ndarray, " group"]]]:
        """For each bandwidth, the label map of the original image and the groups' scores (group k has label k + 1).

        The modes are those of the network's grid; each original pixel then takes the mode nearest to its own bilinear point, since a
        label map enlarged from the grid would cap small objects. A group's score is its pixels' mean probability of being an
        object times their mean calibrated similarity to the mode.
        """
        points, objectness = embedded.points, embedded.objectness
        device = points.values.device
        inside = cells_inside(objectness, network_size)
        grid_points = points.values[0].flatten(1).T[inside & (objectness.values[0].flatten().sigmoid() > self.foreground)]
        # an original pixel's centre, in pixels of the network's image
        ratio = torch.tensor([network_size[0] / size[0], network_size[1] / size[1]], device=device)
        centres = pixel_centres(size, device) * ratio
        probability = torch.cat([objectness.at(part[None])[0, :, 0].sigmoid() for part in centres.split(PORTION)])
        chosen = (probability > self.foreground).nonzero()[:, 0]
        maps, scores = [], []
        for concentration in self.concentrations if len(chosen) and len(grid_points) else []:
            modes = self.modes(grid_points, concentration)
            nearest, similarity = nearest_modes(points, centres[chosen], modes)
            label = torch.zeros(len(centres), dtype=torch.int64, device=device)
            label[chosen] = nearest + 1
            groups = len(modes.points)
            area = torch.bincount(nearest, minlength=groups).clamp(min=1)
            sure = torch.bincount(nearest, weights=probability[chosen].double(), minlength=groups) / area
            tight = torch.bincount(nearest, weights=similarity.double(), minlength=groups) / area
            maps.append(label.reshape(size).cpu().numpy())
            scores.append((sure * tight).cpu().numpy())
        return maps, scores

    def __call__(self, embedded: Embedded, network_size: tuple[int, int], size: tuple[int, int]) -> Proposals:
        """Ranked masks of one image.

        Args:
            embedded: of a batch of one.
            network_size: (height, width) of the image as the network saw it.
            size: (height, width) of the original.
        """
        masks, scores = [], []
        for label, score in zip(*self.partitions(embedded, network_size, size), strict=True):
            areas = np.bincount(label.ravel(), minlength=len(score) + 1)[1:]
            for group in np.nonzero(areas >= max(1, self.minimum_area))[0]:
                masks.append(encode_mask(label == group + 1))
                scores.append(float(score[group]))
        order = np.argsort(-np.array(scores), kind="stable")
        if len(self.concentrations) > 1:
            order = order[without_duplicates([masks[index] for index in order], self.duplicate_iou)]
        order = order[: self.maximum]
        return Proposals([masks[index] for index in order], np.array([scores[index] for index in order], dtype=np.float64), size)


def cells_inside(feature: FeatureMap, size: tuple[int, int]) -> Tensor:
    """Which cells, row by row, have their centre in the image rather than in its padding."""
    rows, columns = feature.values.shape[-2:]
    centres = pixel_centres((rows, columns), feature.values.device) * feature.stride
    return (centres[:, 0] < size[0]) & (centres[:, 1] < size[1])


def nearest_modes(points: FeatureMap, positions: Float[Tensor, "pixel 2"], modes: Modes) -> tuple[Int64[Tensor, " pixel"], Float[Tensor, " pixel"]]:
    """For the bilinear point at each position the nearest mode, and the calibrated similarity to it."""
    nearest, similarity = [], []
    for part in positions.split(PORTION):
        best = (normalise(points.at(part[None])[0]) @ modes.points.T).max(dim=1)
        nearest.append(best.indices)
        similarity.append((1 + best.values) / 2)
    return torch.cat(nearest), torch.cat(similarity)


def without_duplicates(masks: list[dict[str, object]], iou: float) -> list[int]:
    """Indices of the masks that overlap no better one (an earlier one that stayed) by more than `iou`."""
    overlap = coco_mask.iou(masks, masks, [0] * len(masks)) if masks else np.zeros((0, 0))
    kept: list[int] = []
    for index in range(len(masks)):
        if not kept or overlap[index, kept].max() <= iou:
            kept.append(index)
    return kept


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
