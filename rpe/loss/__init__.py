"""What training minimises: the pairwise margin loss (paper, eq. 1) and the sums of terms that the tasks train with."""

from rpe.loss.instance import InstanceLoss, objectness_loss
from rpe.loss.pairwise import pairwise_margin_loss, share_over_margin

__all__ = ["InstanceLoss", "objectness_loss", "pairwise_margin_loss", "share_over_margin"]
