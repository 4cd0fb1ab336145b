"""Per-pixel classifiers beside the embedding."""

from torch import nn

from rpe.structures import FeatureMap, InputError


class Objectness(nn.Module):
    """Object against background, one logit a cell; groups are sought where its probability is over 1/2.

    Args:
        channels: of the feature map that comes in.
        hidden: channels between its two 1 x 1 convolutions.
        subdivision: r; each cell answers for r x r smaller ones, so that masks are sharper than the grid at no cost in the backbone
            (sub-pixel convolution, Shi et al., 2016). The stride must be a multiple of it.
    """

    def __init__(self, channels: int, hidden: int, subdivision: int) -> None:
        super().__init__()
        if hidden < 1:
            raise InputError(f"head.hidden {hidden} is below 1")
        if subdivision < 1:
            raise InputError(f"head.subdivision {subdivision} is below 1: 1 is a logit a cell")
        self.subdivision = subdivision
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, subdivision**2, 1), nn.PixelShuffle(subdivision)
        )

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Logits, in fp32.

        Raises:
            InputError: the stride is not a multiple of the subdivision.
        """
        if feature.stride % self.subdivision:
            raise InputError(f"head.subdivision {self.subdivision} does not divide backbone.stride {feature.stride}")
        return FeatureMap(self.layers(feature.values).float(), feature.stride // self.subdivision)
