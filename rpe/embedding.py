"""Pyramid -> points on the sphere, one a cell of the finest map."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.sphere import normalise
from rpe.structures import FeatureMap, InputError, pixel_centres


def periodic_coordinates(feature: FeatureMap, periods: list[int]) -> Float[Tensor, "batch coordinate rows columns"]:
    """sin and cos of row and column at the given periods in pixels.

    Never scaled by the image's size: a crop and the whole image then agree on what a distance is (method: a translation-equivariant
    network cannot tell far-apart twins otherwise).
    """
    batch, _, rows, columns = feature.values.shape
    cells = pixel_centres((rows, columns), feature.values.device) * feature.stride
    angles = torch.cat([2 * math.pi * cells / period for period in periods], 1)
    waves = torch.cat([angles.sin(), angles.cos()], 1).T.reshape(1, -1, rows, columns)
    return waves.expand(batch, -1, -1, -1).to(feature.values.dtype)


class Embedding(nn.Module):
    """Two 1 x 1 convolutions and unit length (paper, section 3).

    Args:
        channels: of the feature map that comes in.
        dimension: D >= 2.
        hidden: channels between the two convolutions.
        coordinates: "periodic" appends `periodic_coordinates`.
        periods: in pixels, for periodic coordinates.
    """

    def __init__(self, channels: int, dimension: int, hidden: int, coordinates: str, periods: list[int]) -> None:
        super().__init__()
        if dimension < 2:
            raise InputError(f"embedding.dimension {dimension} leaves no room: points need 2 or more numbers")
        if coordinates not in ("none", "periodic"):
            raise InputError(f"embedding.coordinates {coordinates!r} is unknown: choose none or periodic")
        self.periods = list(periods) if coordinates == "periodic" else []
        self.layers = nn.Sequential(nn.Conv2d(channels + 4 * len(self.periods), hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, dimension, 1))

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Points of unit length, in fp32, at the stride of the feature map."""
        values = feature.values
        if self.periods:
            values = torch.cat([values, periodic_coordinates(feature, self.periods)], 1)
        vectors = self.layers(values).float()
        return FeatureMap(normalise(vectors.movedim(1, -1)).movedim(-1, 1), feature.stride)
