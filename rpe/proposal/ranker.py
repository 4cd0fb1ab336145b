"""Description of a group -> how good a mask it is: what the proposals are ranked by.

The authors never released their ranking (geometric features and a regressor); they suggest a learned one.
"""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rpe.segment.features import PLAIN, Description


class Ranker(nn.Module):
    """Scores groups by their description. `learns` says whether its `loss` belongs to the training."""

    learns = False

    def forward(self, described: Description) -> Float[Tensor, " group"]:
        """A score in [0, 1] for each group."""
        raise NotImplementedError

    def loss(self, described: Description, quality: Float[Tensor, " group"]) -> Float[Tensor, ""]:
        """0 where nothing is learned."""
        return quality.sum() * 0


class LearnedRanker(Ranker):
    """Regresses a group's best intersection over union with a true object from its plain and pooled features.

    Trained jointly with the network on the groups of its current embedding; the features carry no gradient, so ranking never bends the embedding.

    Args:
        channels: of the backbone's features that are pooled.
        hidden: units between its two layers.
    """

    learns = True

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(len(PLAIN) + channels, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def logits(self, described: Description) -> Float[Tensor, " group"]:
        return self.layers(torch.cat(described, 1).detach())[:, 0]

    def forward(self, described: Description) -> Float[Tensor, " group"]:
        """The intersection over union that is expected of each group."""
        return self.logits(described).sigmoid()

    def loss(self, described: Description, quality: Float[Tensor, " group"]) -> Float[Tensor, ""]:
        """Cross-entropy against the measured quality, the mean over the groups; 0 without any."""
        if len(quality) == 0:
            return sum((parameter.sum() * 0 for parameter in self.parameters()), quality.sum())
        return functional.binary_cross_entropy_with_logits(self.logits(described), quality)


class PlainRanker(Ranker):
    """No learning: objectness x cohesion x contrast x size, each in [0, 1].

    Objectness and cohesion are means over the group; contrast is 1 less the similarity of what lies around it to its mode, halved where that is high but
    not an object; size is area / (area + `typical_area`).

    Args:
        channels: of the backbone's features; not used.
        typical_area: the area in pixels of the network's image at which size counts 1/2.
    """

    def __init__(self, channels: int, typical_area: float) -> None:
        super().__init__()
        self.typical_area = typical_area

    def forward(self, described: Description) -> Float[Tensor, " group"]:
        """The product."""
        feature = dict(zip(PLAIN, described.plain.unbind(1), strict=True))
        area = feature["log-area"].exp()
        contrast = 1 - feature["similarity-around"] * feature["objectness-around"]
        return feature["objectness"] * feature["cohesion"] * contrast * area / (area + self.typical_area)


SHAPES = ("log-area", "fill", "elongation")
"""The plain features that count cells and nothing else: they are the same to the last digit however the network's sums were rounded."""


class RandomRanker(Ranker):
    """An order that knows nothing: what any ranking must beat.

    The seed is a hash of all the groups' shapes together, so that it differs between images and between the partitions of one, and is the same
    whenever they are made again, whoever makes them.

    Args:
        channels: not used.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, described: Description) -> Float[Tensor, " group"]:
        """Uniform numbers in [0, 1)."""
        shapes = described.plain[:, [PLAIN.index(name) for name in SHAPES]].double().cpu()
        content = (shapes * 1000).round().long().numpy().tobytes()
        seed = int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "big")
        return torch.rand(len(shapes), generator=torch.Generator().manual_seed(seed)).to(described.plain)
