"""The loss of instance training: the pairwise loss after every loop and the objectness cross-entropy."""

import math

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from rpe.loss.assignment import assignment_loss
from rpe.loss.sampled import SampledPairwiseLoss
from rpe.structures import BACKGROUND, VOID, FeatureMap, Iterates, UserError, pixel_centres


class InstanceLoss(SampledPairwiseLoss):
    """All terms of instance training.

    Args:
        margin, negative_weight, weighting, squared, negative_range, num_pixels, sampling, iterate_weights: see `SampledPairwiseLoss`.
        objectness_weight: of the cross-entropy beside the pairwise terms.
        assignment_weight, assignment_concentration: of `assignment_loss` beside them, and its kappa; weight 0 leaves it out.
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
        objectness_weight: float,
        assignment_weight: float,
        assignment_concentration: float,
    ) -> None:
        super().__init__(
            margin, negative_weight, weighting, squared, negative_range, num_pixels, sampling, iterate_weights
        )
        if objectness_weight < 0:
            raise UserError(f"loss.objectness_weight {objectness_weight} is negative")
        if not 0 <= assignment_weight < math.inf:
            raise UserError(f"loss.assignment_weight must be finite and >= 0, got {assignment_weight}.")
        if not 0 < assignment_concentration < math.inf:
            raise UserError(
                f"loss.assignment_concentration must be finite and > 0, got {assignment_concentration}."
            )
        self.objectness_weight = objectness_weight
        self.assignment_weight, self.assignment_concentration = assignment_weight, assignment_concentration

    def forward(
        self,
        iterates: Iterates,
        positions: Float[Tensor, "batch pixel 2"],
        labels: Int64[Tensor, "batch pixel"],
        objectness: FeatureMap,
        full_labels: Int64[Tensor, "batch height width"],
        points: FeatureMap,
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms by name, already weighted, so that their sum is the loss: `pairwise_0` .. `pairwise_T`, `objectness`."""
        terms = self.pairwise(iterates, positions, labels) | {
            "objectness": self.objectness_weight * objectness_loss(objectness, full_labels)
        }
        if self.assignment_weight:
            terms["assignment"] = self.assignment_weight * assignment_loss(
                points, full_labels, self.assignment_concentration
            )
        return terms


def objectness_loss(objectness: FeatureMap, labels: Int64[Tensor, "batch height width"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of object against background at every pixel, void left out; 0 where all is void."""
    centres = pixel_centres((labels.shape[1], labels.shape[2]), labels.device).expand(len(labels), -1, -1)
    logits = objectness.at(centres)[..., 0].float().reshape(labels.shape)
    known = labels != VOID
    if not bool(known.any()):
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(logits[known], (labels[known] > BACKGROUND).float())
