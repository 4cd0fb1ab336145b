"""The pairwise loss after every loop, on pixels drawn anew each step: shared by the losses of all tasks."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rpe.loss.pairwise import check_pair_options, pair_weights, sort_groups, sorted_margin_loss
from rpe.sphere import check_margin
from rpe.structures import Iterates, UserError, pixel_centres, upload


class SampledPairwiseLoss(nn.Module):
    """The pairwise loss on X_0 and after every loop, on drawn pixels.

    Args:
        weight: factor of all terms, >= 0. The task skips the grouping in training where it is 0.
        margin, negative_weight, weighting, squared, negative_range: see `pairwise_margin_loss`; the range in
            pixels of the network's image.
        num_pixels: pixels drawn from each image at each step (the authors draw at most 4,000); None takes
            all.
        sampling: "uniform" as the authors, or "group": each group, the background too, is drawn about equally
            often. Small objects are then seen whole, and the background does not fill the sample (three
            quarters of all pixels of digits).
        iterate_weights: "sum" as the authors, weight 1 for each of the T + 1 terms, or "mean", weight 1 / (T
            + 1). With the mean, the other terms keep their share of a clipped step for any number of loops.

    Raises:
        UserError: an option is out of range.
    """

    def __init__(
        self,
        weight: float,
        margin: float,
        negative_weight: float,
        weighting: str,
        squared: bool,
        negative_range: float | None,
        num_pixels: int | None,
        sampling: str,
        iterate_weights: str,
    ) -> None:
        super().__init__()
        self.weight = check_weight("pairwise.weight", weight)
        if iterate_weights not in ("sum", "mean"):
            raise UserError(f"loss.pairwise.iterate_weights must be sum or mean, got {iterate_weights!r}.")
        if sampling not in ("uniform", "group"):
            raise UserError(f"loss.pairwise.sampling must be uniform or group, got {sampling!r}.")
        if num_pixels is not None and num_pixels < 2:
            raise UserError(
                f"loss.pairwise.num_pixels must be >= 2 to make a pair, got {num_pixels}. "
                "Use null for all pixels."
            )
        check_pair_options(weighting, negative_weight, negative_range)
        self.margin = check_margin(margin)
        self.negative_weight = negative_weight
        self.weighting = weighting
        self.squared = squared
        self.negative_range = negative_range
        self.num_pixels = num_pixels
        self.sampling = sampling
        self.iterate_weights = iterate_weights

    def choose_pixels(
        self, labels: Int64[Tensor, "batch height width"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch pixel 2"], Int64[Tensor, "batch pixel"]]:
        """Draw positions (row, column) and their labels, equally many from each image.

        The generator lives on the CPU, so that a seed draws the same pixels on every device.
        """
        batch, height, width = labels.shape
        flat = labels.reshape(batch, -1)
        everywhere = pixel_centres((height, width), labels.device)
        if self.num_pixels is None or self.num_pixels >= flat.shape[1]:
            return everywhere.expand(batch, -1, -1), flat
        # The smallest of exponential waiting times of rate w are a weighted draw without replacement
        # (Efraimidis and Spirakis, 2006).
        waiting = upload(torch.empty(flat.shape).exponential_(generator=generator), labels.device)
        if self.sampling == "group":
            waiting = waiting / pair_weights(flat)  # infinite for void
        chosen = waiting.topk(self.num_pixels, dim=1, largest=False).indices
        return everywhere[chosen], flat.gather(1, chosen)

    def forward(
        self,
        iterates: Iterates,
        positions: Float[Tensor, "batch pixel 2"],
        labels: Int64[Tensor, "batch pixel"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted loss of each iterate: `pairwise_0` .. `pairwise_T`."""
        groups = sort_groups(labels, self.weighting)
        factor = self.weight
        if self.iterate_weights == "mean" and iterates:
            factor /= len(iterates)
        options = (self.margin, self.negative_weight, positions, self.negative_range, self.squared)
        return {
            f"pairwise_{loop}": factor * sorted_margin_loss(points, groups, *options)
            for loop, points in enumerate(iterates)
        }


def check_weight(name: str, value: float) -> float:
    """Return the weight `loss.<name>` of a term.

    Raises:
        UserError: it is negative or not finite.
    """
    if not 0 <= value < math.inf:
        raise UserError(f"loss.{name} must be finite and >= 0, got {value}.")
    return value
