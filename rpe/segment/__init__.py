"""Turn the network's output for one image into groups, ranked masks at the original size, and one label map.

Images of any size are cut into overlapping tiles (tiles), and the objects of all tiles are stitched into one
label map (stitching). A tile decides for its core, the part nearer to its middle than to a neighbour's
middle. Memory grows with the label maps, not with the number of masks.
"""

from rpe.segment.classes import class_components, class_probability, classify_masks
from rpe.segment.features import GroupFeatures, compute_best_ious, compute_group_features
from rpe.segment.groups import (
    GroupMap,
    cells_inside,
    detach_output,
    label_pixels,
    select_image,
    truth_on_grid,
)
from rpe.segment.instances import Instances
from rpe.segment.proposer import Proposer
from rpe.segment.ranker import HeuristicRanker, LearnedRanker, RandomRanker, Ranker
from rpe.segment.segmenter import Segmenter, network_period
from rpe.segment.selection import select_instances, select_proposals
from rpe.segment.stitching import Piece, resize_labels, stitch_tiles
from rpe.segment.tiles import Tile, check_step, cut_tiles, relative_slice

__all__ = [
    "GroupFeatures",
    "GroupMap",
    "HeuristicRanker",
    "Instances",
    "LearnedRanker",
    "Piece",
    "Proposer",
    "RandomRanker",
    "Ranker",
    "Segmenter",
    "Tile",
    "cells_inside",
    "check_step",
    "class_components",
    "class_probability",
    "classify_masks",
    "compute_best_ious",
    "compute_group_features",
    "cut_tiles",
    "detach_output",
    "label_pixels",
    "network_period",
    "relative_slice",
    "resize_labels",
    "select_image",
    "select_instances",
    "select_proposals",
    "stitch_tiles",
    "truth_on_grid",
]
