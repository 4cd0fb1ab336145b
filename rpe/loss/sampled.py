"""The pairwise loss after every loop, on pixels that are drawn anew each step: what the losses of all tasks share."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rpe.loss.pairwise import check_pair_options, groups_of, margin_loss_of_groups, pair_weights
from rpe.sphere import check_margin
from rpe.structures import Iterates, UserError, pixel_centres


class SampledPairwiseLoss(nn.Module):
    """The pairwise loss on X_0 and after every loop, on drawn pixels.

    Args:
        margin, negative_weight, weighting, squared, negative_range: see `pairwise_margin_loss`; the range in pixels of the network's image.
        num_pixels: how many pixels of an image take part, drawn anew each step (the authors draw 4,000 at most); None takes all.
        sampling: "uniform" as the authors, or "group": each group, the background too, is drawn about equally often, so that
            small objects are seen whole and the background does not fill the sample (digits: three quarters of all pixels).
        iterate_weights: "sum" as the authors, each of the T + 1 terms with weight 1, or "mean", each with 1 / (T + 1): the terms beside
            them keep their share of a clipped step however many loops there are.
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
    ) -> None:
        super().__init__()
        if iterate_weights not in ("sum", "mean"):
            raise UserError(f"loss.iterate_weights must be sum or mean, got {iterate_weights!r}.")
        self.iterate_weights = iterate_weights
        if sampling not in ("uniform", "group"):
            raise UserError(f"loss.sampling {sampling!r} is unknown: choose uniform or group")
        self.sampling = sampling
        check_pair_options(weighting, negative_weight, negative_range)
        self.margin = check_margin(margin)
        self.negative_weight = negative_weight
        self.weighting = weighting
        self.squared = squared
        self.negative_range = negative_range
        if num_pixels is not None and num_pixels < 2:
            raise UserError(f"loss.num_pixels {num_pixels} makes no pair: name 2 or more, or null for all")
        self.num_pixels = num_pixels

    def choose_pixels(
        self, labels: Int64[Tensor, "batch height width"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch pixel 2"], Int64[Tensor, "batch pixel"]]:
        """The positions (row, column) and labels of the pixels that take part, as many in each image.

        The generator lives on the CPU, so that a seed draws the same pixels on every device.
        """
        batch, height, width = labels.shape
        flat = labels.reshape(batch, -1)
        everywhere = pixel_centres((height, width), labels.device)
        if self.num_pixels is None or self.num_pixels >= flat.shape[1]:
            return everywhere.expand(batch, -1, -1), flat
        # the smallest of exponential waiting times with rate w are a weighted draw without replacement (Efraimidis and Spirakis, 2006)
        waiting = torch.empty(flat.shape).exponential_(generator=generator).to(labels.device)
        if self.sampling == "group":
            rates = torch.stack([pair_weights(image, "group") for image in flat])
            waiting = waiting / rates  # void waits for ever
        chosen = waiting.topk(self.num_pixels, dim=1, largest=False).indices
        return everywhere[chosen], flat.gather(1, chosen)

    def pairwise(
        self,
        iterates: Iterates,
        positions: Float[Tensor, "batch pixel 2"],
        labels: Int64[Tensor, "batch pixel"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The loss of each iterate: `pairwise_0` .. `pairwise_T`."""
        groups = [groups_of(image, self.weighting) for image in labels]
        share = 1 / len(iterates) if self.iterate_weights == "mean" and iterates else 1.0
        options = (self.margin, self.negative_weight, positions, self.negative_range, self.squared)
        return {
            f"pairwise_{loop}": share * margin_loss_of_groups(points, groups, *options)
            for loop, points in enumerate(iterates)
        }
