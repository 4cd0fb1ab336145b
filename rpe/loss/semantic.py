"""The loss of training with classes: their cross-entropy beside the pairwise loss after every loop."""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from rpe.loss.sampled import SampledPairwiseLoss, check_weight
from rpe.structures import VOID, FeatureMap, InstanceBatch, Iterates, NetworkOutput, UserError, pixel_centres


class SemanticLoss(nn.Module):
    """All terms of training with classes, as the paper trains semantic segmentation.

    Args:
        pairwise: the pairwise loss of the iterates; with weight 0, training is cross-entropy alone (the
            ablation).
        class_weight: factor of the cross-entropy.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(self, pairwise: SampledPairwiseLoss, class_weight: float) -> None:
        super().__init__()
        self.pairwise = pairwise
        self.class_weight = check_weight("class_weight", class_weight)
        if pairwise.weight == class_weight == 0:
            raise UserError("loss.pairwise.weight or loss.class_weight must be > 0, got 0 for both.")

    def forward(
        self,
        iterates: Iterates,
        positions: Float[Tensor, "batch pixel 2"],
        labels: Int64[Tensor, "batch pixel"],
        output: NetworkOutput,
        batch: InstanceBatch,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted terms by name; their sum is the loss.

        Args:
            iterates: X_0 .. X_T at `positions`; none where the pairwise loss has weight 0.
            labels: objects at `positions`.
            output: the network's output for the batch, with class logits.
            batch: images with the labels of all their pixels.

        Returns:
            `pairwise_0` .. `pairwise_T` and `classes`.
        """
        assert output.classes is not None
        terms: dict[str, Tensor] = self.pairwise(iterates, positions, labels)
        return terms | {"classes": self.class_weight * class_loss(output.classes, batch.classes())}


def class_loss(logits: FeatureMap, classes: Int64[Tensor, "batch height width"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the classes over all pixels that are not void; 0 where all are
    void."""
    centres = pixel_centres((classes.shape[1], classes.shape[2]), classes.device).expand(len(classes), -1, -1)
    values = logits.at(centres).float().flatten(0, 1)
    total = functional.cross_entropy(values, classes.flatten(), ignore_index=VOID, reduction="sum")
    return total / (classes != VOID).sum().clamp(min=1)
