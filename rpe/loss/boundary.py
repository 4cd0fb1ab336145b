"""The loss of boundary training: on each stage of the network the pairwise loss and a logistic one, and the logistic one of the fused map."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from rpe.loss.sampled import SampledPairwiseLoss
from rpe.structures import VOID, BoundaryBatch, FeatureMap, Iterates, UserError, pixel_centres


class BoundaryLoss(SampledPairwiseLoss):
    """All terms of boundary training (paper, section 5.2).

    Args:
        margin, negative_weight, weighting, squared, negative_range, num_pixels, sampling, iterate_weights: see `SampledPairwiseLoss`.
        grouping_target: what the pixels are grouped by: "boundary", into boundary and not boundary, as in the paper, or "segments", into those of one
            annotator, drawn anew for each image and step.
        pairwise_weight: of the pairwise terms, which are means over the stages; 0 leaves them out: the ablation.
        stage_weight: of the stages' logistic losses, the mean over them, beside the fused map's.
        boundary_share: share of the weight that a map's logistic loss gives to boundary pixels, whatever their number; 0.5 is the class
            balance of HED (Xie and Tu, 2015, eq. 2), less makes thinner maps.

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
        grouping_target: str,
        pairwise_weight: float,
        stage_weight: float,
        boundary_share: float,
    ) -> None:
        super().__init__(
            margin, negative_weight, weighting, squared, negative_range, num_pixels, sampling, iterate_weights
        )
        if grouping_target not in ("boundary", "segments"):
            raise UserError(
                f"loss.grouping_target {grouping_target!r} is unknown: choose boundary or segments"
            )
        for name, value in (("pairwise_weight", pairwise_weight), ("stage_weight", stage_weight)):
            if value < 0:
                raise UserError(f"loss.{name} {value} is negative")
        if not 0 < boundary_share < 1:
            raise UserError(f"loss.boundary_share {boundary_share} is not between 0 and 1")
        self.grouping_target, self.pairwise_weight, self.stage_weight, self.boundary_share = (
            grouping_target,
            pairwise_weight,
            stage_weight,
            boundary_share,
        )

    def groups_of(
        self, batch: BoundaryBatch, generator: torch.Generator
    ) -> Int64[Tensor, "batch height width"]:
        """The labels by which pairs are alike or not; the generator draws an annotator of each image."""
        if self.grouping_target == "boundary":
            return batch.labels
        people = (batch.segments != VOID).any(-1).any(-1).sum(1).clamp(min=1).cpu()
        drawn = (torch.rand(len(people), generator=generator) * people).long()
        return batch.segments[torch.arange(len(people)), drawn]

    def forward(
        self,
        iterates: list[Iterates],
        positions: Float[Tensor, "batch pixel 2"],
        groups: Int64[Tensor, "batch pixel"],
        stages: list[FeatureMap],
        fused: FeatureMap,
        labels: Int64[Tensor, "batch height width"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms by name, already weighted, so that their sum is the loss: `pairwise_0` .. `pairwise_T`, `stages`, `fused`.

        Args:
            iterates: of each stage, at `positions`; none where `pairwise_weight` is 0.
            groups: what `groups_of` gives, at `positions`.
            stages: the logits of each stage.
            fused: the logits of all together.
            labels: 1 boundary, 0 not, void.
        """
        by_stage = [self.pairwise(one, positions, groups) for one in iterates]
        names = by_stage[0] if by_stage else {}
        terms = {
            name: self.pairwise_weight * torch.stack([one[name] for one in by_stage]).mean() for name in names
        }
        terms["stages"] = (
            self.stage_weight
            * torch.stack([balanced_logistic(one, labels, self.boundary_share) for one in stages]).mean()
        )
        return terms | {"fused": balanced_logistic(fused, labels, self.boundary_share)}


def balanced_logistic(
    logits: FeatureMap, labels: Int64[Tensor, "batch height width"], boundary_share: float
) -> Float[Tensor, ""]:
    """Logistic loss at every pixel: in each image all boundary pixels together weigh `boundary_share`, all others the rest, void nothing.

    The mean over the images; one without a boundary, or without anything else, has the other half of the loss alone.
    """
    centres = pixel_centres((labels.shape[1], labels.shape[2]), labels.device).expand(len(labels), -1, -1)
    values = logits.at(centres)[..., 0].float()
    flat = labels.reshape(len(labels), -1)
    loss = functional.binary_cross_entropy_with_logits(values, (flat == 1).float(), reduction="none")
    total = loss.sum() * 0
    for kind, share in ((1, boundary_share), (0, 1 - boundary_share)):
        of_kind = (flat == kind).float()
        total = total + share * ((loss * of_kind).sum(1) / of_kind.sum(1).clamp(min=1)).mean()
    return total
