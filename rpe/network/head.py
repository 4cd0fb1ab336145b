"""Per-pixel classifiers: beside the embedding, or on it."""

import torch
from torch import nn

from rpe.network.backbone.decoder import resized
from rpe.structures import FeatureMap, UserError

MOST_CLASSES = 254
"""Class maps are files of 8 bits a pixel, in which 255 is void."""


class Objectness(nn.Module):
    """Object against background, one logit a cell; groups are sought where its probability is over 1/2.

    Args:
        channels: of the feature map that comes in.
        hidden: channels between its two 1 x 1 convolutions.
        upscale: r; each cell answers for r x r smaller ones, so that masks are sharper than the grid at no cost in the backbone
            (sub-pixel convolution, Shi et al., 2016). The stride must be a multiple of it.
    """

    def __init__(self, channels: int, hidden: int, upscale: int) -> None:
        super().__init__()
        if hidden < 1:
            raise UserError(f"head.hidden {hidden} is below 1")
        if upscale < 1:
            raise UserError(f"head.upscale {upscale} is below 1: 1 is a logit a cell")
        self.upscale = upscale
        self.layers = self.layers_of(channels, 1, hidden)

    def layers_of(self, channels: int, outputs: int, hidden: int) -> nn.Sequential:
        """Two 1 x 1 convolutions, and the upscale of each cell."""
        finer = self.upscale
        return nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs * finer**2, 1),
            nn.PixelShuffle(finer),
        )

    def forward(self, feature: FeatureMap) -> FeatureMap:
        """Logits, in fp32.

        Raises:
            UserError: the stride is not a multiple of the upscale.
        """
        if feature.stride % self.upscale:
            raise UserError(f"head.upscale {self.upscale} does not divide backbone.stride {feature.stride}")
        return FeatureMap(self.layers(feature.values).float(), feature.stride // self.upscale)

    def read(self, feature: FeatureMap) -> tuple[FeatureMap, FeatureMap | None]:
        """The logit of being an object, and those of the classes, of which this head knows none."""
        return self(feature), None


class Classifier(Objectness):
    """The class of each cell, the background one of them: `1 + classes` logits a cell, the background's first.

    An object is what is no background: its logit follows from the classes', so that no second head, with a loss of its own, can contradict the first, and
    a network that learns classes alone has the same parts and terms as one that groups too.

    Args:
        classes: how many the data have, without the background.
        channels, hidden, upscale: see `Objectness`.
    """

    def __init__(self, channels: int, classes: int, hidden: int, upscale: int) -> None:
        super().__init__(channels, hidden, upscale)
        if not 1 <= classes <= MOST_CLASSES:
            raise UserError(
                f"head.classes {classes} is outside [1, {MOST_CLASSES}]: it is the number of the data's categories, without the background"
            )
        self.classes = classes
        self.layers = self.layers_of(channels, 1 + classes, hidden)

    def read(self, feature: FeatureMap) -> tuple[FeatureMap, FeatureMap | None]:
        """log(P(object) / P(background)) of the softmax over the classes, and the classes' logits."""
        logits = self(feature)
        background, objects = logits.values[:, :1], logits.values[:, 1:]
        return FeatureMap(objects.logsumexp(1, keepdim=True) - background, logits.stride), logits


class BoundaryClassifier(nn.Module):
    """Boundary or not: a logit on each stage's embedding, and one on all of them together.

    Args:
        dimension: of the stages' points.
        stages: how many there are.
        hidden: channels between the two convolutions, 3 x 3 and 1 x 1, that fuse the stages.
        upscale: as `Objectness`; of the fused map alone.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(self, dimension: int, stages: int, hidden: int, upscale: int) -> None:
        super().__init__()
        if hidden < 1 or upscale < 1:
            raise UserError(f"head.hidden {hidden} and head.upscale {upscale} must be 1 or more")
        self.upscale = upscale
        self.single = nn.ModuleList(nn.Conv2d(dimension, 1, 1) for _ in range(stages))
        self.fused = nn.Sequential(
            nn.Conv2d(dimension * stages, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, upscale**2, 1),
            nn.PixelShuffle(upscale),
        )

    def forward(self, points: list[FeatureMap]) -> tuple[list[FeatureMap], FeatureMap]:
        """Logits of each stage, and of all, in fp32.

        Raises:
            UserError: the finest stride is not a multiple of the upscale.
        """
        finest = points[0]
        if finest.stride % self.upscale:
            raise UserError(f"head.upscale {self.upscale} does not divide backbone.stride {finest.stride}")
        single = [
            FeatureMap(layer(stage.values).float(), stage.stride)
            for layer, stage in zip(self.single, points, strict=True)
        ]
        together = torch.cat([resized(stage.values, finest.values.shape[-2:]) for stage in points], 1)
        return single, FeatureMap(self.fused(together).float(), finest.stride // self.upscale)
