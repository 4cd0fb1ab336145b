"""The loss of instance training: pairwise loss after every loop, objectness cross-entropy, soft
assignment."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from rpe.loss.assignment import assignment_loss
from rpe.loss.sampled import SampledPairwiseLoss, check_weight
from rpe.structures import (
    BACKGROUND,
    VOID,
    FeatureMap,
    InstanceBatch,
    Iterates,
    NetworkOutput,
    UserError,
    pixel_centres,
)


class InstanceLoss(nn.Module):
    """All terms of instance training.

    Args:
        pairwise: the pairwise loss of the iterates.
        objectness_weight: factor of the objectness cross-entropy.
        assignment_weight, assignment_concentration: factor of `assignment_loss`, and its kappa; weight 0
            omits it.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(
        self,
        pairwise: SampledPairwiseLoss,
        objectness_weight: float,
        assignment_weight: float,
        assignment_concentration: float,
    ) -> None:
        super().__init__()
        if not 0 < assignment_concentration < math.inf:
            raise UserError(
                f"loss.assignment_concentration must be finite and > 0, got {assignment_concentration}."
            )
        self.pairwise = pairwise
        self.objectness_weight = check_weight("objectness_weight", objectness_weight)
        self.assignment_weight = check_weight("assignment_weight", assignment_weight)
        self.assignment_concentration = assignment_concentration

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
            iterates: X_0 .. X_T at `positions`.
            labels: objects at `positions`.
            output: the network's output for the batch.
            batch: images with the labels of all their pixels.

        Returns:
            `pairwise_0` .. `pairwise_T`, `objectness`, and `assignment` where it has weight.
        """
        terms: dict[str, Tensor] = self.pairwise(iterates, positions, labels)
        terms["objectness"] = self.objectness_weight * objectness_loss(output.objectness, batch.labels)
        if self.assignment_weight:
            num_groups = max(len(categories) for categories in batch.categories)
            assignment = assignment_loss(
                output.points, batch.labels, self.assignment_concentration, num_groups
            )
            terms["assignment"] = self.assignment_weight * assignment
        return terms


def objectness_loss(objectness: FeatureMap, labels: Int64[Tensor, "batch height width"]) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of object against background over all pixels that are not void.

    0 where all pixels are void.
    """
    centres = pixel_centres((labels.shape[1], labels.shape[2]), labels.device).expand(len(labels), -1, -1)
    logits = objectness.at(centres)[..., 0].float().reshape(labels.shape)
    known = labels != VOID
    is_object = (labels > BACKGROUND).to(logits.dtype)
    losses = functional.binary_cross_entropy_with_logits(logits, is_object, reduction="none")
    return torch.where(known, losses, 0).sum() / known.sum().clamp(min=1)
