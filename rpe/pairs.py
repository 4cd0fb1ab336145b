"""All pairs of points in tiles: what the grouping and the loss share to never build a pixel-by-pixel matrix."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TILE = 512
"""Rows and columns of a CPU tile: 1 MiB in fp32, which stays in a core's cache (256, 512, 1024 and 2048 measured)."""

NARROW = 16
"""Matrix products with fewer columns than this are slower than with zero columns appended (4, 8 and 16 measured)."""


def upper_tiles(length: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the tiles on and above the diagonal of a length x length matrix."""
    for top in range(0, length, tile):
        for left in range(top, length, tile):
            yield slice(top, min(top + tile, length)), slice(left, min(left + tile, length))


def tile_of(buffer: Float[Tensor, " size"], left: Float[Tensor, "row wide"], right: Float[Tensor, "column wide"]) -> Float[Tensor, "row column"]:
    """left right^T, written into the buffer."""
    tile = buffer[: len(left) * len(right)].view(len(left), len(right))
    return torch.mm(left, right.t(), out=tile)


def widen(columns: list[Tensor]) -> Float[Tensor, "pixel wide"]:
    """The columns side by side, with zero columns up to `NARROW`."""
    joined = torch.cat(columns, dim=1)
    return functional.pad(joined, (0, max(0, NARROW - joined.shape[1])))
