"""All pairs of points in tiles: what the grouping and the loss share to never build a pixel-by-pixel matrix."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

TILE = 512
"""Rows and columns of a CPU tile: 1 MiB in fp32, which stays in a core's cache (256, 512, 1024 and 2048 measured)."""


def upper_tiles(length: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the tiles on and above the diagonal of a length x length matrix."""
    for top in range(0, length, tile):
        for left in range(top, length, tile):
            yield slice(top, min(top + tile, length)), slice(left, min(left + tile, length))


def tile_of(buffer: Float[Tensor, " size"], left: Float[Tensor, "row wide"], right: Float[Tensor, "column wide"]) -> Float[Tensor, "row column"]:
    """left right^T, written into the buffer."""
    tile = buffer[: len(left) * len(right)].view(len(left), len(right))
    return torch.mm(left, right.t(), out=tile)


def add_products(
    sums: Float[Tensor, "wide pixel"], tile: Float[Tensor, "row column"], values: Float[Tensor, "pixel wide"], rows: slice, columns: slice
) -> None:
    """Add to `sums` what one tile of a symmetric matrix S adds to (S values)^T, for its rows and, off the diagonal, for its columns.

    The sums are kept transposed because a BLAS product with few columns is up to four times slower than one with few rows.
    """
    sums[:, rows].addmm_(values[columns].t(), tile.t())
    if rows != columns:
        sums[:, columns].addmm_(values[rows].t(), tile)
