"""The loss of training with classes: their cross-entropy, and beside it the pairwise loss after every loop."""

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from rpe.loss.sampled import SampledPairwiseLoss
from rpe.structures import VOID, FeatureMap, Iterates, UserError, pixel_centres


class SemanticLoss(SampledPairwiseLoss):
    """All terms of training with classes: the grouping loss beside the cross-entropy, as the paper trains semantic segmentation.

    Args:
        margin, negative_weight, weighting, squared, negative_range, num_pixels, sampling, iterate_weights: see `SampledPairwiseLoss`.
        pairwise_weight: of each pairwise term; 0 leaves the grouping out of the training: the ablation.
        class_weight: of the cross-entropy.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(
        self,
        margin: float,
        negative_weight: float,
        weighting: str,
        squared: bool,
        negative_range: float | None,
        num_pixels: int | None,
        sampling: str,
        iterate_weights: str,
        pairwise_weight: float,
        class_weight: float,
    ) -> None:
        super().__init__(
            margin, negative_weight, weighting, squared, negative_range, num_pixels, sampling, iterate_weights
        )
        for name, value in (("pairwise_weight", pairwise_weight), ("class_weight", class_weight)):
            if value < 0:
                raise UserError(f"loss.{name} {value} is negative")
        if pairwise_weight == class_weight == 0:
            raise UserError("loss.pairwise_weight and loss.class_weight are both 0: nothing would be learned")
        self.pairwise_weight, self.class_weight = pairwise_weight, class_weight

    def forward(
        self,
        iterates: Iterates,
        positions: Float[Tensor, "batch pixel 2"],
        labels: Int64[Tensor, "batch pixel"],
        logits: FeatureMap,
        classes: Int64[Tensor, "batch height width"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms by name, already weighted, so that their sum is the loss: `pairwise_0` .. `pairwise_T`, `classes`.

        Args:
            iterates: at `positions`; none where `pairwise_weight` is 0.
            labels: the objects, at `positions`.
            logits: of the classes, the background's first.
            classes: of each pixel, 0 the background, void left out.
        """
        terms = {
            name: self.pairwise_weight * value
            for name, value in self.pairwise(iterates, positions, labels).items()
        }
        return terms | {"classes": self.class_weight * class_loss(logits, classes)}


def class_loss(logits: FeatureMap, classes: Int64[Tensor, "batch height width"]) -> Float[Tensor, ""]:
    """Cross-entropy of the classes at every pixel, the mean over all that are not void; 0 where all is void."""
    centres = pixel_centres((classes.shape[1], classes.shape[2]), classes.device).expand(len(classes), -1, -1)
    values = logits.at(centres).float().flatten(0, 1)
    total = functional.cross_entropy(values, classes.flatten(), ignore_index=VOID, reduction="sum")
    return total / (classes != VOID).sum().clamp(min=1)
