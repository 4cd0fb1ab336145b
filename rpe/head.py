"""Per-pixel classifiers beside the embedding."""

from torch import nn

from rpe.structures import FeatureMap


class Objectness(nn.Module):
    """Object against background, one logit a cell; groups are sought where its probability is over 1/2.

    Args:
        channels: of the feature map that comes in.
        hidden: channels between its two 1 x 1 convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, 1, 1))

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Logits, in fp32."""
        return FeatureMap(self.layers(feature.values).float(), feature.stride)
