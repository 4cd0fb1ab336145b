"""Map feature maps to points on the sphere, one per cell of the finest map."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rpe.sphere import normalise
from rpe.structures import FeatureMap, UserError, pixel_centres


def periodic_coordinates(
    feature: FeatureMap, periods: list[int]
) -> Float[Tensor, "batch coordinate rows columns"]:
    """Return sin and cos of row and column at the given periods in pixels.

    They are never scaled by the image's size, so that a crop and the whole image agree on distances (method:
    a translation-equivariant network cannot tell distant look-alikes apart otherwise).
    """
    waves = periodic_code(feature_cell_centres(feature), periods)
    # shape[0], not len: otherwise a traced export is fixed to one batch size
    return waves.expand(feature.values.shape[0], -1, -1, -1).to(feature.values.dtype)


def feature_cell_centres(feature: FeatureMap) -> Float[Tensor, "1 2 rows columns"]:
    """Return row and column of each cell's centre, in pixels of the network's image."""
    rows, columns = feature.values.shape[-2:]
    return (pixel_centres((rows, columns), feature.values.device) * feature.stride).T.reshape(
        1, 2, rows, columns
    )


def periodic_code(
    positions: Float[Tensor, "batch 2 rows columns"], periods: list[int]
) -> Float[Tensor, "batch coordinate rows columns"]:
    """Return sin and cos of positions in pixels at the given periods."""
    angles = torch.cat([2 * math.pi * positions / period for period in periods], 1)
    return torch.cat([angles.sin(), angles.cos()], 1)


class Embedding(nn.Module):
    """Two 1 x 1 convolutions, normalised to unit length (paper, section 3).

    Args:
        channels: of the input feature map.
        dimension: D >= 2.
        hidden: channels between the two convolutions.
        coordinates: "none"; "periodic" appends `periodic_coordinates` to the features; "displaced" adds a
            linear map of the periodic code of a displaced position. The network predicts the displacement of
            each pixel, so that all pixels of an object can share one position (for example its middle), and
            hence one code, however many look-alikes the image holds.
        periods: of the coordinates, in pixels.

    Raises:
        UserError: an option is out of range.
    """

    DISPLACEMENT = 16.0
    """Pixels per unit of displacement output: about an object's radius, so that weights need not grow."""

    def __init__(
        self, channels: int, dimension: int, hidden: int, coordinates: str, periods: list[int]
    ) -> None:
        super().__init__()
        if dimension < 2:
            raise UserError(f"embedding.dimension must be >= 2, got {dimension}.")
        if hidden < 1 or any(period <= 0 for period in periods):
            raise UserError(
                f"embedding.hidden and embedding.periods must be > 0, got {hidden} and {list(periods)}."
            )
        if coordinates not in ("none", "periodic", "displaced"):
            raise UserError(
                f"embedding.coordinates must be none, periodic or displaced, got {coordinates!r}."
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
    def initialise_from_data(self, feature: FeatureMap) -> None:
        """Shift and scale the last layer so that its outputs have mean 0 and deviation 1 on this feature map.

        A freshly initialised layer maps all pixels to nearly one point (mean cosine 0.89), where the loss has
        little gradient. Displacement outputs are scaled too: displacements start with a deviation of
        `DISPLACEMENT` pixels.
        """
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        vectors = self.layers(self.with_coordinates(feature)).float()
        mean, deviation = vectors.mean((0, 2, 3)), vectors.std((0, 2, 3)).clamp(min=1e-6)
        last.weight.div_(deviation[:, None, None, None])
        last.bias.copy_((last.bias - mean) / deviation)

    def with_coordinates(self, feature: FeatureMap) -> Float[Tensor, "batch channel rows columns"]:
        """Return the features, with the periodic coordinates appended if requested."""
        if self.coordinates != "periodic":
            return feature.values
        return torch.cat([feature.values, periodic_coordinates(feature, self.periods)], 1)

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Return points of unit length in fp32, at the stride of the feature map."""
        vectors = self.layers(self.with_coordinates(feature)).float()
        if self.coordinates == "displaced":
            positions = feature_cell_centres(feature) + self.DISPLACEMENT * vectors[:, self.dimension :]
            vectors = (
                vectors[:, : self.dimension] + self.placed(periodic_code(positions, self.periods)).float()
            )
        return FeatureMap(normalise(vectors.movedim(1, -1)).movedim(-1, 1), feature.stride)
