"""Propose ranked masks for an image, from all its partitions."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rpe.grouping import find_modes
from rpe.grouping.arguments import SPATIAL_RANGE
from rpe.rle import encode_labels, pairwise_iou
from rpe.segment.features import compute_group_features
from rpe.segment.groups import (
    UNGROUPED,
    GroupMap,
    cell_centres,
    cells_inside,
    drop_small_groups,
    label_pixels,
    probability_at,
    split_components,
    split_masks,
)
from rpe.segment.ranker import Ranker
from rpe.sphere import check_bandwidth, concentration_of_bandwidth
from rpe.structures import Geometry, Modes, NetworkOutput, Proposals, UserError


class PartitionSetting(NamedTuple):
    """The settings of one partition.

    Pixels above the objectness `foreground` are grouped, with the kernel's `concentration`, in at most
    `loops` loops. With `split`, groups are split into their connected components.
    """

    foreground: float
    concentration: float
    loops: int
    split: bool


class Proposer(nn.Module):
    """A module that groups the foreground by mean shift, in several partitions, and makes each group a mask.

    These settings are for inference alone; they are never inherited from the loops that training unrolls.
    Each triple of `foreground_thresholds`, `bandwidths` and `iterations` gives one partition: small
    bandwidths and few loops give parts, large bandwidths and many loops give clumps. `split_components` adds
    a second partition to each, with the connected components of the first, so that a clump and its parts are
    both proposed. Near-duplicates among all masks are removed, then the best `max_proposals` are kept.

    Args:
        bandwidths: b of each partition, in [0.02, 2].
        iterations: the most loops; several numbers give several partitions.
        merge_tolerance, move_tolerance, max_keys: see `find_modes` (`keys` there).
        spatial_bandwidth: of the joint kernel, in pixels of the network's image; None averages over all
            pixels.
        split_components: also propose each group's connected components, split on the grid and again at the
            original size.
        foreground_thresholds: probabilities of objectness above which a pixel is grouped, in (0, 1). Each has
            its own partitions, since no single threshold fits every object.
        views: average objectness and classes over the image (1), also its mirror image (2), or all eight
            mirror images and quarter turns (8), at as many passes of the network.
        min_area: groups of fewer original pixels are dropped.
        nms_iou: two masks with a larger IoU are duplicates; the one with the better score is kept.
        max_proposals: most masks of an image.
        score_threshold: least score of the masks that `select_instances` paints into the label map.
        ranker: scores the groups.

    Raises:
        UserError: a setting is out of range.
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
        views: int,
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
                raise UserError(
                    f"proposal.{name} must hold one or more numbers, got []. Use e.g. [{example}]."
                )
        constraints = (
            ("iterations", min(iterations) >= 0, ">= 0", iterations),
            (
                "foreground_thresholds",
                0 < min(foreground_thresholds) <= max(foreground_thresholds) < 1,
                "in (0, 1)",
                foreground_thresholds,
            ),
            (
                "spatial_bandwidth",
                spatial_bandwidth is None or SPATIAL_RANGE[0] <= spatial_bandwidth <= SPATIAL_RANGE[1],
                "in [{:g}, {:g}] pixels, or null".format(*SPATIAL_RANGE),
                spatial_bandwidth,
            ),
            ("views", views in (1, 2, 8), "1, 2 or 8", views),
            ("max_proposals", max_proposals >= 1, ">= 1", max_proposals),
            ("max_keys", max_keys is None or max_keys >= 1, ">= 1", max_keys),
            ("min_area", min_area >= 0, ">= 0", min_area),
            ("nms_iou", 0 <= nms_iou <= 1, "in [0, 1]", nms_iou),
            ("merge_tolerance", 0 <= merge_tolerance < 1, "in [0, 1)", merge_tolerance),
            ("move_tolerance", 0 <= move_tolerance <= 1, "in [0, 1]", move_tolerance),
            ("score_threshold", 0 <= score_threshold <= 1, "in [0, 1]", score_threshold),
        )
        for name, holds, constraint, value in constraints:
            if not holds:
                raise UserError(f"proposal.{name} must be {constraint}, got {value}.")
        self.settings = [
            PartitionSetting(foreground, concentration_of_bandwidth(check_bandwidth(bandwidth)), loops, split)
            for foreground in foreground_thresholds
            for bandwidth in bandwidths
            for loops in iterations
            for split in ((False, True) if split_components else (False,))
        ]
        self.merge_tolerance, self.move_tolerance, self.max_keys = merge_tolerance, move_tolerance, max_keys
        self.spatial_bandwidth = spatial_bandwidth
        self.views, self.min_area = views, min_area
        self.nms_iou, self.max_proposals, self.score_threshold = nms_iou, max_proposals, score_threshold
        self.ranker = ranker

    def modes(
        self,
        points: Float[Tensor, "pixel dim"],
        setting: PartitionSetting,
        positions: Float[Tensor, "pixel 2"] | None = None,
    ) -> Modes:
        """Return the modes of some pixels, by the setting's concentration and loops.

        `positions` are used where `spatial_bandwidth` is given.
        """
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
    def group_cells(
        self,
        output: NetworkOutput,
        network_size: tuple[int, int],
        setting: PartitionSetting,
        min_cells: float = 0,
    ) -> GroupMap:
        """Return the partition of one image on its grid, without groups of fewer than `min_cells` cells.

        Args:
            output: of one image.
            network_size: (height, width) of the image as the network got it.
            setting: the foreground threshold, concentration and loops.
            min_cells: smaller groups are dropped.
        """
        whole = self.group_unsplit(output, network_size, setting)
        return drop_small_groups(split_components(whole) if setting.split else whole, min_cells)

    def group_unsplit(
        self, output: NetworkOutput, network_size: tuple[int, int], setting: PartitionSetting
    ) -> GroupMap:
        """Return all groups of one image on its grid, connected or not."""
        points = output.points
        centres = cell_centres(points)
        inside = cells_inside(points, network_size)
        foreground = inside & (probability_at(output.objectness, centres) > setting.foreground)
        modes = self.modes(points.values[0].flatten(1).T[foreground], setting, centres[foreground])
        labels = torch.full_like(foreground, UNGROUPED, dtype=torch.int64)
        labels[foreground] = modes.labels + 1
        grid = points.values.shape[-2:]
        return GroupMap(labels.reshape(grid), modes.points, inside.reshape(grid))

    @torch.no_grad()
    def partitions(
        self, output: NetworkOutput, geometry: Geometry
    ) -> Iterator[tuple[Int64[np.ndarray, "height width"], Float[np.ndarray, " group"]]]:
        """Yield for each setting the label map of the original image and the groups' scores.

        Group k has label k + 1.
        """
        points = output.points
        device = points.values.device
        ratio, centres = geometry.ratio(device), geometry.centres(device)
        probability = probability_at(output.objectness, centres)
        small = self.min_area * float(ratio[0] * ratio[1]) / points.stride**2
        whole = None
        for setting in self.settings:
            chosen = (probability > setting.foreground).nonzero()[:, 0]
            local = setting.split or self.spatial_bandwidth is not None
            if whole is None or not setting.split:  # a split setting follows the same one unsplit
                whole = self.group_unsplit(output, geometry.network_size, setting)
            groups = drop_small_groups(
                split_components(whole) if setting.split else whole, small if local else 0
            )
            label = torch.full((len(centres),), UNGROUPED, dtype=torch.int64, device=device)
            if len(chosen) and len(groups.modes):
                label[chosen], _ = label_pixels(groups, points, centres[chosen], local)
            score = self.ranker(compute_group_features(groups, output))
            found = label.reshape(geometry.size).cpu().numpy(), score.double().cpu().numpy()
            yield split_masks(*found) if setting.split else found

    def forward(self, output: NetworkOutput, geometry: Geometry) -> Proposals:
        """Return the ranked masks of one image, without classes; `output` holds a batch of one."""
        masks, scores = [], []
        for label, score in self.partitions(output, geometry):
            areas = np.bincount(label.ravel(), minlength=len(score) + 1)[1:]
            large = np.nonzero(areas >= max(1, self.min_area))[0]
            masks += encode_labels(label, large + 1)
            scores += score[large].tolist()
        order = np.argsort(-np.array(scores), kind="stable")
        if len(self.settings) > 1:
            order = order[drop_duplicates([masks[index] for index in order], self.nms_iou)]
        order = order[: self.max_proposals]
        return Proposals(
            [masks[index] for index in order],
            np.array([scores[index] for index in order], dtype=np.float64),
            geometry.size,
        )


def drop_duplicates(masks: list[dict[str, object]], iou: float) -> list[int]:
    """Return the indices of the masks to keep, given best first.

    A mask is dropped if its IoU with an earlier kept mask exceeds `iou`.
    """
    overlap = pairwise_iou(masks, masks)
    kept: list[int] = []
    for index in range(len(masks)):
        if not kept or overlap[index, kept].max() <= iou:
            kept.append(index)
    return kept
