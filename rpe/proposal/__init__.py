"""Points and objectness of one image -> groups on the grid -> ranked masks at its original size -> one label map."""

from rpe.proposal.classified import class_components, class_probability, classified
from rpe.proposal.description import Description, describe, quality_of
from rpe.proposal.instances import select_instances, selected
from rpe.proposal.partition import Grouped, at_original_size, cells_inside, detached, image_of, truth_on_grid
from rpe.proposal.proposer import Proposer
from rpe.proposal.ranker import LearnedRanker, PlainRanker, RandomRanker, Ranker

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
