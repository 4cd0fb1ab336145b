"""Points and objectness of one image -> groups on the grid -> ranked masks at its original size -> one label map."""

from rpe.segment.classes import class_components, class_probability, classified
from rpe.segment.features import Description, describe, quality_of
from rpe.segment.groups import Grouped, at_original_size, cells_inside, detached, image_of, truth_on_grid
from rpe.segment.proposer import Proposer
from rpe.segment.ranker import LearnedRanker, PlainRanker, RandomRanker, Ranker
from rpe.segment.selection import select_instances, selected

__all__ = [
    "Description",
    "Grouped",
    "LearnedRanker",
    "PlainRanker",
    "Proposer",
    "RandomRanker",
    "Ranker",
    "at_original_size",
    "cells_inside",
    "class_components",
    "class_probability",
    "classified",
    "describe",
    "detached",
    "image_of",
    "quality_of",
    "select_instances",
    "selected",
    "truth_on_grid",
]
