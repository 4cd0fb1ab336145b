"""All pairs of points in tiles: what the grouping and the loss share to never build a pixel-by-pixel matrix."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from rpe.sphere import check_tensor, in_single
from rpe.structures import UserError

TILE = 512
"""Rows and columns of a CPU tile: 1 MiB in fp32, which stays in a core's cache (256, 512, 1024 and 2048 measured)."""

GPU_TILE = 4096
"""Rows and columns of a tile on a GPU: large enough to fill it, 64 MiB in fp32."""


def checked_positions(
    positions: Real[Tensor, "*shape 2"], used: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape 2"]:
    """The same in floating point.

    Raises:
        UserError: they are no real numbers, or one in use is not finite.
    """
    check_tensor("positions", positions)
    wrong = ~positions.isfinite().all(-1) & used
    if bool(wrong.any()):
        raise UserError(
            f"{int(wrong.sum())} positions are not finite: give the row and the column of every pixel that is used"
        )
    return in_single(positions) if positions.is_floating_point() else positions.double()


def refuse_second_derivative(what: str) -> None:
    """Called in a backward: refuse to be a step of `create_graph=True`, whose derivative would silently be wrong.

    Raises:
        UserError: naming what has none.
    """
    if torch.is_grad_enabled():
        raise UserError(f"{what} has no second derivative: take its gradient without create_graph=True")


def upper_tiles(
    length: int, tile: int, places: Float[Tensor, "pixel 2"] | None = None, reach: float = math.inf
) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the tiles on and above the diagonal of a length x length matrix.

    With places, tiles whose bounding boxes are more than `reach` apart are left out: points in the order of `along_a_curve` leave out most.
    """
    parts = [slice(top, min(top + tile, length)) for top in range(0, length, tile)]
    if places is None:
        yield from ((rows, columns) for index, rows in enumerate(parts) for columns in parts[index:])
        return
    low = torch.stack([places[part].amin(0) for part in parts])
    high = torch.stack([places[part].amax(0) for part in parts])
    gap = torch.maximum(low[:, None] - high, low - high[:, None]).clamp(min=0)
    near = gap.square().sum(-1).cpu() <= reach**2
    yield from (
        (rows, columns)
        for index, rows in enumerate(parts)
        for other, columns in enumerate(parts)
        if other >= index and near[index, other]
    )


def along_a_curve(places: Float[Tensor, "pixel 2"]) -> Int64[Tensor, " pixel"]:
    """An order in which points that follow each other lie near each other: Morton's curve over squares of side 1."""
    square = (places - places.amin(0)).long().clamp(max=2**15 - 1)
    code = torch.zeros_like(square[:, 0])
    for bit in range(15):
        code |= ((square[:, 0] >> bit & 1) << 2 * bit + 1) | ((square[:, 1] >> bit & 1) << 2 * bit)
    return torch.argsort(code, stable=True)


def tile_of(
    buffer: Float[Tensor, " size"], left: Float[Tensor, "row wide"], right: Float[Tensor, "column wide"]
) -> Float[Tensor, "row column"]:
    """left right^T, written into the buffer."""
    tile = buffer[: len(left) * len(right)].view(len(left), len(right))
    return torch.mm(left, right.t(), out=tile)


def add_products(
    sums: Float[Tensor, "wide pixel"],
    tile: Float[Tensor, "row column"],
    values: Float[Tensor, "pixel wide"],
    rows: slice,
    columns: slice,
) -> None:
    """Add to `sums` what one tile of a symmetric matrix S adds to (S values)^T, for its rows and, off the diagonal, for its columns.

    The sums are kept transposed because a BLAS product with few columns is up to four times slower than one with few rows.
    """
    sums[:, rows].addmm_(values[columns].t(), tile.t())
    if rows != columns:
        sums[:, columns].addmm_(values[rows].t(), tile)
