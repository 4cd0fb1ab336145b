"""All partitions of an image -> one ranked list of masks."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from rpe.grouping import find_modes
from rpe.segment.features import describe
from rpe.segment.groups import (
    UNGROUPED,
    GroupMap,
    at_original_size,
    cell_centres,
    cells_inside,
    connected,
    parted,
    probability_at,
    without_small,
)
from rpe.segment.ranker import Ranker
from rpe.sphere import check_bandwidth, concentration_of_bandwidth
from rpe.structures import Geometry, Modes, NetworkOutput, Proposals, UserError, encode_labels


class Setting(NamedTuple):
    """How a partition is made: the objectness from which pixels take part, the kernel's concentration, the most loops, and whether groups are split
    into their connected parts."""

    foreground: float
    concentration: float
    loops: int
    split: bool


class Proposer(nn.Module):
    """Groups the foreground by mean shift, at several thresholds, bandwidths and numbers of loops, and makes each group a mask.

    These are inference's own settings, never inherited from what training unrolls. There is one partition for each triple of
    `foreground_thresholds`, `bandwidths` and `iterations`: small bandwidths and few loops give parts, large ones and many loops clumps. With
    `split_components` each has a second partition, of the first one's connected parts, so that a clump stands beside what it falls into.
    Near-duplicates among all masks are removed, then the best `max_proposals` stay.

    Args:
        bandwidths: b of each partition, in [0.02, 2].
        iterations: the most loops; several numbers make several partitions.
        merge_tolerance, move_tolerance, max_keys: see `find_modes`.
        spatial_bandwidth: of the joint kernel, in pixels of the network's image; None lets all pixels average with all.
        split_components: take each group's connected parts too, on the grid and again at the original size.
        foreground_thresholds: probabilities of objectness from which a pixel takes part, in (0, 1); each has partitions of its own, since no one
            threshold fits every object.
        min_area: groups of fewer pixels are none; in original pixels.
        nms_iou: of two masks that overlap by more, the better scored stays.
        max_proposals: masks of an image.
        score_threshold: of the masks that `select_instances` takes into the one label map.
        ranker: scores the groups.

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self,
        bandwidths: list[float],
        iterations: list[int],
        merge_tolerance: float,
        move_tolerance: float,
        max_keys: int | None,
        spatial_bandwidth: float | None,
        split_components: bool,
        foreground_thresholds: list[float],
        min_area: int,
        nms_iou: float,
        max_proposals: int,
        score_threshold: float,
        ranker: Ranker,
    ) -> None:
        super().__init__()
        several = (
            ("bandwidths", bandwidths, 0.2),
            ("iterations", iterations, 10),
            ("foreground_thresholds", foreground_thresholds, 0.5),
        )
        for name, values, example in several:
            if not values:
                raise UserError(f"proposal.{name} is empty: name one or more, such as [{example}]")
        if min(iterations) < 0:
            raise UserError(f"proposal.iterations {iterations} holds a negative number")
        if not 0 < min(foreground_thresholds) <= max(foreground_thresholds) < 1:
            raise UserError(
                f"proposal.foreground_thresholds must be probabilities in (0, 1), got {foreground_thresholds}."
            )
        if spatial_bandwidth is not None and not spatial_bandwidth > 0:
            raise UserError(
                f"proposal.spatial_bandwidth {spatial_bandwidth} is not positive: it is a distance in pixels, or null"
            )
        for name, value, least in (
            ("max_proposals", max_proposals, 1),
            ("max_keys", max_keys, 1),
            ("min_area", min_area, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"proposal.{name} {value} is below {least}")
        shares = {
            "nms_iou": nms_iou,
            "merge_tolerance": merge_tolerance,
            "move_tolerance": move_tolerance,
            "score_threshold": score_threshold,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"proposal.{name} {share} is outside [0, 1]")
        self.settings = [
            Setting(foreground, concentration_of_bandwidth(check_bandwidth(bandwidth)), loops, split)
            for foreground in foreground_thresholds
            for bandwidth in bandwidths
            for loops in iterations
            for split in ((False, True) if split_components else (False,))
        ]
        self.merge_tolerance, self.move_tolerance, self.max_keys = merge_tolerance, move_tolerance, max_keys
        self.spatial_bandwidth = spatial_bandwidth
        self.min_area = min_area
        self.nms_iou, self.max_proposals, self.score_threshold = nms_iou, max_proposals, score_threshold
        self.ranker = ranker

    def modes(
        self,
        points: Float[Tensor, "pixel dim"],
        setting: Setting,
        positions: Float[Tensor, "pixel 2"] | None = None,
    ) -> Modes:
        """The modes of some pixels under a setting's concentration and loops; with positions where `spatial_bandwidth` is given."""
        local = self.spatial_bandwidth is not None and positions is not None
        return find_modes(
            points,
            setting.concentration,
            iterations=setting.loops,
            merge_tolerance=self.merge_tolerance,
            move_tolerance=self.move_tolerance,
            keys=None if local else self.max_keys,
            positions=positions if local else None,
            spatial_bandwidth=self.spatial_bandwidth if local else None,
        )

    @torch.no_grad()
    def grouped(
        self, embedded: NetworkOutput, network_size: tuple[int, int], setting: Setting, cells: float = 0
    ) -> GroupMap:
        """The foreground's groups, or their parts, on the grid of one image, those of fewer than `cells` cells left out."""
        whole = self.unsplit(embedded, network_size, setting)
        return without_small(connected(whole) if setting.split else whole, cells)

    def unsplit(self, embedded: NetworkOutput, network_size: tuple[int, int], setting: Setting) -> GroupMap:
        """All groups as they are, connected or not."""
        points = embedded.points
        centres = cell_centres(points)
        inside = cells_inside(points, network_size)
        taking_part = inside & (probability_at(embedded.objectness, centres) > setting.foreground)
        modes = self.modes(points.values[0].flatten(1).T[taking_part], setting, centres[taking_part])
        labels = torch.full_like(taking_part, UNGROUPED, dtype=torch.int64)
        labels[taking_part] = modes.labels + 1
        grid = points.values.shape[-2:]
        return GroupMap(labels.reshape(grid), modes.points, inside.reshape(grid))

    @torch.no_grad()
    def partitions(
        self, embedded: NetworkOutput, geometry: Geometry
    ) -> Iterator[tuple[Int64[np.ndarray, "height width"], Float[np.ndarray, " group"]]]:
        """For each setting the label map of the original image and the groups' scores (group k has label k + 1)."""
        points = embedded.points
        device = points.values.device
        ratio, centres = geometry.ratio(device), geometry.centres(device)
        probability = probability_at(embedded.objectness, centres)
        small = self.min_area * float(ratio[0] * ratio[1]) / points.stride**2
        whole = None
        for setting in self.settings:
            chosen = (probability > setting.foreground).nonzero()[:, 0]
            local = setting.split or self.spatial_bandwidth is not None
            if whole is None or not setting.split:  # the parts follow what they are parts of
                whole = self.unsplit(embedded, geometry.network_size, setting)
            grouped = without_small(connected(whole) if setting.split else whole, small if local else 0)
            label = torch.full((len(centres),), UNGROUPED, dtype=torch.int64, device=device)
            if len(chosen) and len(grouped.modes):
                label[chosen], _ = at_original_size(grouped, points, centres[chosen], local)
            score = self.ranker(describe(grouped, embedded))
            found = label.reshape(geometry.size).cpu().numpy(), score.double().cpu().numpy()
            yield parted(*found) if setting.split else found

    def forward(self, embedded: NetworkOutput, geometry: Geometry) -> Proposals:
        """Return the ranked masks of one image, without classes; `embedded` is that of a batch of one."""
        masks, scores = [], []
        for label, score in self.partitions(embedded, geometry):
            areas = np.bincount(label.ravel(), minlength=len(score) + 1)[1:]
            large = np.nonzero(areas >= max(1, self.min_area))[0]
            masks += encode_labels(label, large + 1)
            scores += score[large].tolist()
        order = np.argsort(-np.array(scores), kind="stable")
        if len(self.settings) > 1:
            order = order[without_duplicates([masks[index] for index in order], self.nms_iou)]
        order = order[: self.max_proposals]
        return Proposals(
            [masks[index] for index in order],
            np.array([scores[index] for index in order], dtype=np.float64),
            geometry.size,
        )


def without_duplicates(masks: list[dict[str, object]], iou: float) -> list[int]:
    """Indices of the masks that overlap no better one (an earlier one that stayed) by more than `iou`."""
    overlap = coco_mask.iou(masks, masks, [0] * len(masks)) if masks else np.zeros((0, 0))
    kept: list[int] = []
    for index in range(len(masks)):
        if not kept or overlap[index, kept].max() <= iou:
            kept.append(index)
    return kept
