"""Pyramid -> points on the sphere, one a cell of the finest map."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.sphere import normalise
from rpe.structures import FeatureMap, UserError, pixel_centres


def periodic_coordinates(
    feature: FeatureMap, periods: list[int]
) -> Float[Tensor, "batch coordinate rows columns"]:
    """sin and cos of row and column at the given periods in pixels.

    Never scaled by the image's size: a crop and the whole image then agree on what a distance is (method: a translation-equivariant
    network cannot tell far-apart twins otherwise).
    """
    waves = periodic_code(cell_centres(feature), periods)
    # shape[0], not len: what is traced for export would else hold for one batch size alone
    return waves.expand(feature.values.shape[0], -1, -1, -1).to(feature.values.dtype)


def cell_centres(feature: FeatureMap) -> Float[Tensor, "1 2 rows columns"]:
    """Row and column of each cell's centre, in pixels of the network's image."""
    rows, columns = feature.values.shape[-2:]
    return (pixel_centres((rows, columns), feature.values.device) * feature.stride).T.reshape(
        1, 2, rows, columns
    )


def periodic_code(
    places: Float[Tensor, "batch 2 rows columns"], periods: list[int]
) -> Float[Tensor, "batch coordinate rows columns"]:
    """sin and cos of places in pixels at the given periods."""
    angles = torch.cat([2 * math.pi * places / period for period in periods], 1)
    return torch.cat([angles.sin(), angles.cos()], 1)


class Embedding(nn.Module):
    """Two 1 x 1 convolutions and unit length (paper, section 3).

    Args:
        channels: of the feature map that comes in.
        dimension: D >= 2.
        hidden: channels between the two convolutions.
        coordinates: "periodic" appends `periodic_coordinates`; "displaced" adds a linear map of the periodic code of another place: the
            network says for each pixel how far away that place is, so that all pixels of an object can name one place (its middle,
            say) and have one code, however many look-alikes the image holds.
        periods: in pixels, for the coordinates.
    """

    DISPLACEMENT = 16.0
    """Pixels that an output of 1 displaces by: about an object's radius, so that the weights need not grow for it."""

    def __init__(
        self, channels: int, dimension: int, hidden: int, coordinates: str, periods: list[int]
    ) -> None:
        super().__init__()
        if dimension < 2:
            raise UserError(f"embedding.dimension {dimension} leaves no room: points need 2 or more numbers")
        if hidden < 1 or any(period <= 0 for period in periods):
            raise UserError(f"embedding.hidden {hidden} and embedding.periods {periods} must be over 0")
        if coordinates not in ("none", "periodic", "displaced"):
            raise UserError(
                f"embedding.coordinates {coordinates!r} is unknown: choose none, periodic or displaced"
            )
        self.periods, self.coordinates, self.dimension = list(periods), coordinates, dimension
        codes = 4 * len(periods)
        given = channels + (codes if coordinates == "periodic" else 0)
        outputs = dimension + (2 if coordinates == "displaced" else 0)
        self.layers = nn.Sequential(
            nn.Conv2d(given, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 1)
        )
        if coordinates == "displaced":
            self.placed = nn.Conv2d(codes, dimension, 1, bias=False)
            nn.init.orthogonal_(self.placed.weight)

    @torch.no_grad()
    def calibrate(self, feature: FeatureMap) -> None:
        """Shift and scale the last layer so that its outputs have mean 0 and deviation 1 on this feature map.

        A freshly initialised layer sends all pixels to nearly one point (mean cosine 0.89), where the loss has little gradient. A displacement
        starts at 0: it would be a random place.
        """
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        vectors = self.layers(self.with_coordinates(feature)).float()
        mean, deviation = vectors.mean((0, 2, 3)), vectors.std((0, 2, 3)).clamp(min=1e-6)
        last.weight.div_(deviation[:, None, None, None])
        last.bias.copy_((last.bias - mean) / deviation)

    def with_coordinates(self, feature: FeatureMap) -> Float[Tensor, "batch channel rows columns"]:
        """Return the features, with the periodic coordinates appended where they are wanted."""
        if self.coordinates != "periodic":
            return feature.values
        return torch.cat([feature.values, periodic_coordinates(feature, self.periods)], 1)

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Points of unit length, in fp32, at the stride of the feature map."""
        vectors = self.layers(self.with_coordinates(feature)).float()
        if self.coordinates == "displaced":
            places = cell_centres(feature) + self.DISPLACEMENT * vectors[:, self.dimension :]
            vectors = vectors[:, : self.dimension] + self.placed(periodic_code(places, self.periods)).float()
        return FeatureMap(normalise(vectors.movedim(1, -1)).movedim(-1, 1), feature.stride)
