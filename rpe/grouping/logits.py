"""Compute the logits of the kernel in blocks: cosine on the sphere, squared distance in the image."""

import itertools
import math
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from rpe.pairs import BLOCK, multiply_block

BITS = math.log2(math.e)
"""exp(y) = 2^(y BITS): torch's exp2 takes a quarter of exp's time on a CPU, at the same accuracy."""

PRODUCT_RANGE = 8.0
"""Distance from the middle, in spatial bandwidths, up to which squared distances may be fp32 products."""


class Logits:
    """kappa (x_i . x_j - 1) - |p_i - p_j|^2 / (2 h^2), in bits, for blocks of points i and others j.

    The distances are another product, p_i . p_j - |p_i|^2 / 2 - |p_j|^2 / 2, centred on the middle of the
    block's rows. This is precise where the rows lie within `PRODUCT_RANGE` of the middle, and loses all
    digits on an image many bandwidths wide. There, distances are differences, which are exact for pixel
    centres and take half as long again as the rest.
    """

    def __init__(
        self,
        points: Float[Tensor, "point dim"],
        others: Float[Tensor, "other dim"],
        concentration: Float[Tensor, ""],
        positions: Float[Tensor, "point 2"] | None,
        other_positions: Float[Tensor, "other 2"] | None,
        spatial_bandwidth: float,
    ) -> None:
        extra = 0 if positions is None else 4
        self.left = torch.cat(
            [points, -torch.ones_like(points[:, :1]), points.new_zeros(len(points), extra)], 1
        ).mul_(BITS * concentration)
        self.right = torch.cat(
            [others, torch.ones_like(others[:, :1]), others.new_zeros(len(others), extra)], 1
        )
        self.positions, self.other_positions, self.spatial_bandwidth = (
            positions,
            other_positions,
            spatial_bandwidth,
        )
        if positions is not None:
            self.left[:, -1], self.right[:, -2] = BITS, 1

    def blocks(
        self,
        parts: Iterable[tuple[slice, slice]],
        buffer: Float[Tensor, " size"],
        spare: Float[Tensor, " size"] | None,
    ) -> Iterator[tuple[slice, slice, Float[Tensor, "row column"]]]:
        """Yield rows, columns and logits of each part, written into the buffer, which is reused.

        `spare`, as long as the buffer, is required with positions and is overwritten.
        """
        for rows, same in itertools.groupby(parts, key=lambda part: part[0]):
            middle = None if self.positions is None else self.centre_on(rows, self.positions[rows])
            for _, columns in same:
                if self.positions is None or self.other_positions is None or spare is None:
                    block = multiply_block(buffer, self.left[rows], self.right[columns])
                elif middle is not None:
                    relative = (self.other_positions[columns] - middle) / self.spatial_bandwidth
                    self.right[columns, -4:-2] = relative
                    self.right[columns, -1] = relative.square().sum(1) / -2
                    block = multiply_block(buffer, self.left[rows], self.right[columns])
                else:
                    block = multiply_block(buffer, self.left[rows, :-4], self.right[columns, :-4])
                    self.subtract_distances(block, spare, self.positions[rows], self.other_positions[columns])
                yield rows, columns, block

    def subtract_distances(
        self,
        block: Float[Tensor, "row column"],
        spare: Float[Tensor, " size"],
        positions: Float[Tensor, "row 2"],
        others: Float[Tensor, "column 2"],
    ) -> None:
        """Subtract the distances of all pairs from a block, as differences of positions."""
        difference = spare[: block.numel()].view_as(block)
        for row, column in zip(positions.t(), others.t().contiguous(), strict=True):
            torch.sub(row[:, None], column, out=difference)
            block.addcmul_(difference, difference, value=-BITS / (2 * self.spatial_bandwidth**2))

    def centre_on(self, rows: slice, positions: Float[Tensor, "row 2"]) -> Float[Tensor, "2"] | None:
        """Write the rows' factors relative to their middle, and return it; None for rows too far apart."""
        low, high = positions.amin(0), positions.amax(0)
        if not bool((high - low).norm() <= 2 * PRODUCT_RANGE * self.spatial_bandwidth):
            return None
        middle = (low + high) / 2
        relative = (positions - middle) / self.spatial_bandwidth
        self.left[rows, -4:-2] = BITS * relative
        self.left[rows, -2] = relative.square().sum(1) * (-BITS / 2)
        return middle


def iterate_logits(logits: Logits) -> Iterator[tuple[slice, slice, Float[Tensor, "row column"]]]:
    """Yield rows, columns and logits of all queries and keys block by block, in one reused buffer."""
    buffer = logits.left.new_empty(BLOCK * 4 * BLOCK)
    spare = None if logits.positions is None else torch.empty_like(buffer)
    count, others = len(logits.left), len(logits.right)
    rows = [slice(top, min(top + 4 * BLOCK, count)) for top in range(0, count, 4 * BLOCK)]
    columns = [slice(start, min(start + BLOCK, others)) for start in range(0, others, BLOCK)]
    return logits.blocks(itertools.product(rows, columns), buffer, spare)
