"""Points and objectness of one image -> groups on the grid -> ranked masks at its original size -> one label map.

Images of any size: tiles that overlap (tiles), and the objects of all tiles as one label map (stitching). A tile's own
answer counts in its core, the part that is nearer to its middle than to a neighbour's. Memory is that of the label
maps, never of a mask an object.
"""

from rpe.segment.classes import class_components, class_probability, classified
from rpe.segment.features import Description, describe, quality_of
from rpe.segment.groups import GroupMap, at_original_size, cells_inside, detached, image_of, truth_on_grid
from rpe.segment.instances import Instances
from rpe.segment.proposer import Proposer
from rpe.segment.ranker import LearnedRanker, PlainRanker, RandomRanker, Ranker
from rpe.segment.segmenter import Segmenter, multiple_of
from rpe.segment.selection import select_instances, selected
from rpe.segment.stitching import Piece, enlarged, stitched
from rpe.segment.tiles import Tile, check_step, tiles_of, within

__all__ = [
    "Description",
    "GroupMap",
    "Instances",
    "LearnedRanker",
    "Piece",
    "PlainRanker",
    "Proposer",
    "RandomRanker",
    "Ranker",
    "Segmenter",
    "Tile",
    "at_original_size",
    "cells_inside",
    "check_step",
    "class_components",
    "class_probability",
    "classified",
    "describe",
    "detached",
    "enlarged",
    "image_of",
    "multiple_of",
    "quality_of",
    "select_instances",
    "selected",
    "stitched",
    "tiles_of",
    "truth_on_grid",
    "within",
]
