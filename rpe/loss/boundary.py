"""The loss of boundary training: pairwise and logistic losses of each stage, logistic loss of the fused
map."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from rpe.loss.sampled import SampledPairwiseLoss, check_weight
from rpe.structures import (
    VOID,
    Boundaries,
    BoundaryBatch,
    FeatureMap,
    Iterates,
    UserError,
    pixel_centres,
    upload,
)


class BoundaryLoss(nn.Module):
    """All terms of boundary training (paper, section 5.2).

    Args:
        pairwise: the pairwise loss of each stage's iterates, the mean over the stages; weight 0 omits it (the
            ablation).
        grouping_target: groups of the pairwise loss: "boundary", into boundary and not boundary as in the
            paper, or "segments", those of one annotator, drawn anew for each image and step.
        stage_weight: factor of the mean logistic loss of the stages, beside that of the fused map.
        boundary_share: weight of all boundary pixels of a map in its logistic loss, in (0, 1), whatever their
            number. 0.5 is the class balance of HED (Xie and Tu, 2015, eq. 2); less makes thinner maps.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(
        self, pairwise: SampledPairwiseLoss, grouping_target: str, stage_weight: float, boundary_share: float
    ) -> None:
        super().__init__()
        if grouping_target not in ("boundary", "segments"):
            raise UserError(f"loss.grouping_target must be boundary or segments, got {grouping_target!r}.")
        if not 0 < boundary_share < 1:
            raise UserError(f"loss.boundary_share must be between 0 and 1, got {boundary_share}.")
        self.pairwise = pairwise
        self.grouping_target = grouping_target
        self.stage_weight = check_weight("stage_weight", stage_weight)
        self.boundary_share = boundary_share

    def groups_of(
        self, batch: BoundaryBatch, generator: torch.Generator
    ) -> Int64[Tensor, "batch height width"]:
        """Return the labels of the pairwise loss; the generator draws an annotator for each image."""
        if self.grouping_target == "boundary":
            return batch.labels
        annotators = (batch.segments != VOID).any(-1).any(-1).sum(1).clamp(min=1)
        chance = upload(torch.rand(len(annotators), generator=generator), annotators.device)
        images = torch.arange(len(annotators), device=annotators.device)
        return batch.segments[images, (chance * annotators).long()]

    def forward(
        self,
        iterates: list[Iterates],
        positions: Float[Tensor, "batch pixel 2"],
        groups: Int64[Tensor, "batch pixel"],
        output: Boundaries,
        batch: BoundaryBatch,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted terms by name; their sum is the loss.

        Args:
            iterates: X_0 .. X_T of each stage at `positions`; none where the pairwise loss has weight 0.
            groups: labels from `groups_of` at `positions`.
            output: logits of each stage and of the fused map.
            batch: images with labels: 1 boundary, 0 other, void.

        Returns:
            `pairwise_0` .. `pairwise_T`, `stages` and `fused`.
        """
        by_stage = [self.pairwise(stage, positions, groups) for stage in iterates]
        names = by_stage[0] if by_stage else {}
        terms = {name: torch.stack([stage[name] for stage in by_stage]).mean() for name in names}
        stages = [balanced_logistic(stage, batch.labels, self.boundary_share) for stage in output.stages]
        terms["stages"] = self.stage_weight * torch.stack(stages).mean()
        return terms | {"fused": balanced_logistic(output.fused, batch.labels, self.boundary_share)}


def balanced_logistic(
    logits: FeatureMap, labels: Int64[Tensor, "batch height width"], boundary_share: float
) -> Float[Tensor, ""]:
    """Return the mean over images of the logistic loss with balanced classes.

    In each image, all boundary pixels together have weight `boundary_share`, all others the rest, void none.
    An image without boundaries, or with boundaries alone, contributes the part that it has.
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
