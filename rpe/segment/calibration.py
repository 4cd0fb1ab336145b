"""Replace a ranker's scores by expected IoUs, measured on the validation split."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rpe.segment.features import GroupFeatures
from rpe.segment.ranker import Ranker

SLOPE = 1e-6
"""Share of the raw score in the calibrated one. Isotonic maps are flat in places. The share keeps the raw
order there, so average recall stays the same to the last digit."""


class CalibratedRanker(Ranker):
    """A ranker that maps another ranker's scores to expected IoUs and keeps their order.

    Args:
        ranker: gives the raw scores.
        scores, ious: knots of the piecewise linear map, ascending.
    """

    def __init__(self, ranker: Ranker, scores: list[float], ious: list[float]) -> None:
        super().__init__()
        self.ranker, self.scores, self.ious = ranker, scores, ious

    def forward(self, features: GroupFeatures) -> Float[Tensor, " group"]:
        """Return the expected IoU of each group, in double precision because single would lose the order."""
        raw = self.ranker(features).double()
        mapped = torch.from_numpy(np.interp(raw.cpu().numpy(), self.scores, self.ious)).to(raw)
        return mapped + SLOPE * (raw - mapped)
