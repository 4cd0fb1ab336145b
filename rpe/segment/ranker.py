"""Score groups by their features; proposals are ranked by these scores.

The authors never released their ranking (geometric features and a regressor). They suggest a learned one.
"""

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.segment.features import HANDCRAFTED, GroupFeatures

SLOPE = 1e-6
"""Share of the raw score in the calibrated one. Isotonic maps are flat in places. The share keeps the raw
order there, so average recall stays the same to the last digit."""


class Ranker(nn.Module):
    """A module that scores groups by their features. `learns` is True if training adds its `loss`."""

    learns = False

    def forward(self, features: GroupFeatures) -> Float[Tensor, " group"]:
        """Return a score in [0, 1] for each group."""
        raise NotImplementedError

    def loss(self, features: GroupFeatures, quality: Float[Tensor, " group"]) -> Float[Tensor, ""]:
        """Return the loss against the measured quality; 0 for a ranker that does not learn."""
        return quality.sum() * 0


class LearnedRanker(Ranker):
    """A regression of a group's best intersection over union with a true object, from all its features.

    It is trained jointly with the network on the groups of the current embedding. The features carry no
    gradient, so ranking never changes the embedding.

    Args:
        channels: channels of the pooled backbone features.
        hidden: units between the two layers.
    """

    learns = True

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(len(HANDCRAFTED) + channels, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def logits(self, features: GroupFeatures) -> Float[Tensor, " group"]:
        """Return the logit of each group's score, without gradient to the features."""
        return self.layers(torch.cat(features, 1).detach())[:, 0]

    def forward(self, features: GroupFeatures) -> Float[Tensor, " group"]:
        """Return the expected intersection over union of each group."""
        return self.logits(features).sigmoid()

    def loss(self, features: GroupFeatures, quality: Float[Tensor, " group"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy against the measured quality; 0 without groups."""
        if len(quality) == 0:
            return sum((parameter.sum() * 0 for parameter in self.parameters()), quality.sum())
        return functional.binary_cross_entropy_with_logits(self.logits(features), quality)


class HeuristicRanker(Ranker):
    """A formula without learned weights: objectness x cohesion x contrast x size, each in [0, 1].

    Objectness and cohesion are means over the group. Contrast is 1 less the product of the objectness around
    the group and the similarity of these surroundings to its mode. Size is area / (area + `typical_area`).

    Args:
        channels: channels of the pooled backbone features; not used.
        typical_area: area in pixels of the network's image at which size is 1/2.
    """

    def __init__(self, channels: int, typical_area: float) -> None:
        super().__init__()
        self.typical_area = typical_area

    def forward(self, features: GroupFeatures) -> Float[Tensor, " group"]:
        """Return the product of the four factors."""
        feature = dict(zip(HANDCRAFTED, features.handcrafted.unbind(1), strict=True))
        area = feature["log-area"].exp()
        contrast = 1 - feature["similarity-around"] * feature["objectness-around"]
        return feature["objectness"] * feature["cohesion"] * contrast * area / (area + self.typical_area)


SHAPES = ("log-area", "fill", "aspect")
"""Features that only count cells. They are the same to the last digit, however the network rounded its
sums."""


class RandomRanker(Ranker):
    """A random order, as a baseline for other rankers.

    The seed is a hash of all groups' shapes. So it differs between images and between the partitions of one
    image, and each computation of the same groups gives the same order.

    Args:
        channels: channels of the pooled backbone features; not used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, features: GroupFeatures) -> Float[Tensor, " group"]:
        """Return uniform numbers in [0, 1)."""
        shapes = features.handcrafted[:, [HANDCRAFTED.index(name) for name in SHAPES]].double().cpu()
        content = (shapes * 1000).round().long().numpy().tobytes()
        seed = int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "big")
        uniform = torch.rand(len(shapes), generator=torch.Generator().manual_seed(seed))
        return uniform.to(features.handcrafted)


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
