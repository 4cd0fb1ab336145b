"""Compute training losses: the pairwise margin loss (paper, eq. 1), and each task's terms."""

from rpe.loss.assignment import assignment_loss
from rpe.loss.boundary import BoundaryLoss, balanced_logistic
from rpe.loss.instance import InstanceLoss, objectness_loss
from rpe.loss.pairwise import mean_cosine_between, pairwise_margin_loss, share_over_margin
from rpe.loss.sampled import SampledPairwiseLoss
from rpe.loss.semantic import SemanticLoss, class_loss

__all__ = [
    "BoundaryLoss",
    "InstanceLoss",
    "SampledPairwiseLoss",
    "SemanticLoss",
    "assignment_loss",
    "balanced_logistic",
    "class_loss",
    "mean_cosine_between",
    "objectness_loss",
    "pairwise_margin_loss",
    "share_over_margin",
]
