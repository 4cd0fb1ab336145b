"""Classify pixels: from the features beside the embedding, or from the embedding itself."""

import torch
from torch import nn

from rpe.network.backbone.decoder import resize_map
from rpe.structures import FeatureMap, UserError

MAX_CLASSES = 254
"""Class maps are files of 8 bits per pixel, in which 255 is void."""


def check_upscale(upscale: int, stride: int) -> None:
    """Check that the upscale divides the stride.

    Raises:
        UserError: it does not.
    """
    if stride % upscale:
        raise UserError(f"head.upscale must divide backbone.stride {stride}, got {upscale}. 1 always does.")


class Objectness(nn.Module):
    """Object or background, one logit per cell; groups are searched where its probability is
    above `proposal.foreground_thresholds`.

    Args:
        channels: of the input feature map.
        hidden: channels between the two 1 x 1 convolutions.
        upscale: r; each cell is split into r x r smaller ones, for masks sharper than the grid at no cost in
            the backbone (sub-pixel convolution, Shi et al., 2016). It must divide the stride.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(self, channels: int, hidden: int, upscale: int) -> None:
        super().__init__()
        if hidden < 1:
            raise UserError(f"head.hidden must be >= 1, got {hidden}.")
        if upscale < 1:
            raise UserError(f"head.upscale must be >= 1, got {upscale}. 1 means one logit per cell.")
        self.upscale = upscale
        self.layers = self.build_layers(channels, 1, hidden)

    def build_layers(self, channels: int, outputs: int, hidden: int) -> nn.Sequential:
        """Build the two 1 x 1 convolutions and the upscaling of each cell."""
        finer = self.upscale
        return nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs * finer**2, 1),
            nn.PixelShuffle(finer),
        )

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Return logits in fp32.

        Raises:
            UserError: the upscale does not divide the stride.
        """
        check_upscale(self.upscale, feature.stride)
        return FeatureMap(self.layers(feature.values).float(), feature.stride // self.upscale)

    def read(self, feature: FeatureMap) -> tuple[FeatureMap, FeatureMap | None]:
        """Return the objectness logit, and None for the class logits, which this head does not have."""
        return self(feature), None


class Classifier(Objectness):
    """The class of each cell: `1 + classes` logits per cell, the background first.

    Objectness = log P(object) / P(background), derived from the class logits. A second head with a loss of
    its own could contradict the first. A network that only learns classes has the same
    parts and loss terms as one that also groups.

    Args:
        channels, hidden, upscale: see `Objectness`.
        classes: number of classes of the data, without the background.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(self, channels: int, classes: int, hidden: int, upscale: int) -> None:
        super().__init__(channels, hidden, upscale)
        if not 1 <= classes <= MAX_CLASSES:
            raise UserError(
                f"head.classes must be in [1, {MAX_CLASSES}], got {classes}. "
                "It is the number of the data's categories, without the background."
            )
        self.classes = classes
        self.layers = self.build_layers(channels, 1 + classes, hidden)

    def read(self, feature: FeatureMap) -> tuple[FeatureMap, FeatureMap | None]:
        """Return log(P(object) / P(background)) of the softmax over the classes, and the class logits."""
        logits = self(feature)
        background, objects = logits.values[:, :1], logits.values[:, 1:]
        return FeatureMap(objects.logsumexp(1, keepdim=True) - background, logits.stride), logits


class BoundaryClassifier(nn.Module):
    """Boundary or not: one logit on each stage's embedding, and one on all of them together.

    Args:
        dimension: of the stages' points.
        stages: their number.
        channels: of the finest feature map.
        hidden: channels between the two convolutions, 3 x 3 and 1 x 1, that fuse the stages.
        upscale: as in `Objectness`; for the fused map only.
        features: the fused logit also reads the finest feature map; the embeddings alone are few numbers.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(
        self, dimension: int, stages: int, channels: int, hidden: int, upscale: int, features: bool
    ) -> None:
        super().__init__()
        if hidden < 1 or upscale < 1:
            raise UserError(f"head.hidden and head.upscale must be >= 1, got {hidden} and {upscale}.")
        self.upscale, self.features = upscale, features
        self.single = nn.ModuleList(nn.Conv2d(dimension, 1, 1) for _ in range(stages))
        self.fused = nn.Sequential(
            nn.Conv2d(dimension * stages + channels * features, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, upscale**2, 1),
            nn.PixelShuffle(upscale),
        )

    def forward(self, points: list[FeatureMap], feature: FeatureMap) -> tuple[list[FeatureMap], FeatureMap]:
        """Return the logits of each stage, and the fused ones, in fp32; `feature` is the finest map.

        Raises:
            UserError: the upscale does not divide the finest stride.
        """
        finest = points[0]
        check_upscale(self.upscale, finest.stride)
        single = [
            FeatureMap(layer(stage.values).float(), stage.stride)
            for layer, stage in zip(self.single, points, strict=True)
        ]
        together = [resize_map(stage.values, finest.values.shape[-2:]) for stage in points]
        together += [feature.values] if self.features else []
        return single, FeatureMap(self.fused(torch.cat(together, 1)).float(), finest.stride // self.upscale)
