"""An embedding as a perfect network would make it: object k at axis k, sure of what is an object."""

import torch

from rpe.segment import GroupMap
from rpe.structures import FeatureMap, NetworkOutput


def painted(labels: torch.Tensor, stride: int = 1, noise: float = 0.0) -> NetworkOutput:
    """Labels 0..3 on the network's grid as points of four axes; its features are the points again."""
    points = torch.eye(4)[labels.clamp(min=0)] + noise * torch.randn(*labels.shape, 4)
    points = torch.nn.functional.normalize(points, dim=-1).permute(2, 0, 1)[None]
    logits = torch.where(labels > 0, 8.0, -8.0)[None, None]
    return NetworkOutput(FeatureMap(points, stride), FeatureMap(logits, stride), FeatureMap(points, stride))


def squares() -> torch.Tensor:
    """Three rectangles on 12 x 16 cells, two of them touching."""
    labels = torch.zeros(12, 16, dtype=torch.int64)
    labels[1:5, 1:7], labels[5:11, 1:7], labels[2:10, 9:15] = 1, 2, 3
    return labels


def grouped_of(labels: torch.Tensor, modes: torch.Tensor) -> GroupMap:
    """A partition of an image without padding."""
    return GroupMap(labels, modes, torch.ones_like(labels, dtype=torch.bool))
