"""Losses, network outputs and batches as the tests of the losses need them."""

import torch

from rpe.loss import SampledPairwiseLoss
from rpe.structures import FeatureMap, InstanceBatch, NetworkOutput

OPTIONS = dict(
    weight=1.0,
    margin=0.5,
    negative_weight=1.0,
    weighting="group",
    squared=False,
    negative_range=None,
    num_pixels=None,
    sampling="group",
    iterate_weights="sum",
)


def make_pairwise(**change: object) -> SampledPairwiseLoss:
    return SampledPairwiseLoss(**(OPTIONS | change))  # type: ignore[arg-type]


def make_output(
    points: torch.Tensor, objectness: FeatureMap | None = None, classes: FeatureMap | None = None
) -> NetworkOutput:
    """Points [1, 16, dim] as a grid of 4 x 4 cells."""
    grid = FeatureMap(points[0].T.reshape(1, -1, 4, 4), 1)
    return NetworkOutput(grid, objectness or FeatureMap(torch.randn(1, 1, 4, 4), 1), grid, classes)


def make_batch(labels: torch.Tensor, categories: torch.Tensor | None = None) -> InstanceBatch:
    images = torch.zeros(len(labels), 3, *labels.shape[1:])
    every = torch.zeros(1 + int(labels.max()), dtype=torch.int64) if categories is None else categories
    return InstanceBatch(images, labels, [0], [(labels.shape[1], labels.shape[2])], [every] * len(labels))
