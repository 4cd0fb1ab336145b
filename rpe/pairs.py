"""Visit all pairs of points in blocks, so that grouping and loss never build a pixel-by-pixel matrix."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from rpe.sphere import check_tensor, in_single
from rpe.structures import UserError

BLOCK = 512
"""Rows and columns of a CPU block: 1 MiB in fp32, which stays in a core's cache (256 to 2048 measured)."""

GPU_BLOCK = 4096
"""Rows and columns of a block on a GPU: large enough to fill it, 64 MiB in fp32."""


def validate_positions(
    positions: Real[Tensor, "*shape 2"], used: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape 2"]:
    """Return positions in floating point after a check.

    Raises:
        UserError: they are not real numbers, or one in use is not finite.
    """
    check_tensor("positions", positions)
    wrong = find_infinite(positions, used)
    if bool(wrong.any()):
        raise UserError(
            f"positions must be finite, got {int(wrong.sum())} that are not. "
            "Give the row and the column of every pixel in use."
        )
    return float_positions(positions)


def find_infinite(
    positions: Real[Tensor, "*shape 2"], used: Bool[Tensor, "*shape"]
) -> Bool[Tensor, "*shape"]:
    """Return True for positions in use that are NaN or infinite."""
    return ~positions.isfinite().all(-1) & used


def float_positions(positions: Real[Tensor, "*shape 2"]) -> Float[Tensor, "*shape 2"]:
    """Return positions in fp32 or fp64; integers in fp64."""
    return in_single(positions) if positions.is_floating_point() else positions.double()


def refuse_second_derivative(what: str) -> None:
    """Raise if a backward pass runs with `create_graph=True`, whose derivative would silently be wrong.

    Raises:
        UserError: names the function without a second derivative.
    """
    if torch.is_grad_enabled():
        raise UserError(f"create_graph must be False for {what}, got True. It has no second derivative.")


def upper_blocks(
    length: int, block: int, positions: Float[Tensor, "pixel 2"] | None = None, max_distance: float = math.inf
) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) of the blocks on and above the diagonal of a length x length matrix.

    With positions, blocks whose bounding boxes are more than `max_distance` apart are skipped. Points in the
    order of `morton_order` skip most.

    Args:
        length: rows of the square matrix.
        block: rows and columns of a block.
        positions: of the points; None skips no block.
        max_distance: pairs farther apart are not needed.
    """
    parts = [slice(top, min(top + block, length)) for top in range(0, length, block)]
    if positions is None or len(parts) == 1:  # reading distances would stop a GPU
        yield from ((rows, columns) for index, rows in enumerate(parts) for columns in parts[index:])
        return
    low = torch.stack([positions[part].amin(0) for part in parts])
    high = torch.stack([positions[part].amax(0) for part in parts])
    gap = torch.maximum(low[:, None] - high, low - high[:, None]).clamp(min=0)
    near = gap.square().sum(-1).cpu() <= max_distance**2
    yield from (
        (rows, columns)
        for index, rows in enumerate(parts)
        for other, columns in enumerate(parts)
        if other >= index and near[index, other]
    )


def morton_order(positions: Float[Tensor, "pixel 2"]) -> Int64[Tensor, " pixel"]:
    """Return an order in which consecutive points are close: Morton's curve over squares of side 1."""
    square = (positions - positions.amin(0)).long().clamp(max=2**15 - 1)
    code = torch.zeros_like(square[:, 0])
    for bit in range(15):
        code |= ((square[:, 0] >> bit & 1) << 2 * bit + 1) | ((square[:, 1] >> bit & 1) << 2 * bit)
    return torch.argsort(code, stable=True)


def multiply_block(
    buffer: Float[Tensor, " size"], left: Float[Tensor, "row wide"], right: Float[Tensor, "column wide"]
) -> Float[Tensor, "row column"]:
    """Return left right^T, written into the buffer."""
    block = buffer[: len(left) * len(right)].view(len(left), len(right))
    return torch.mm(left, right.t(), out=block)


def add_products(
    sums: Float[Tensor, "wide pixel"],
    block: Float[Tensor, "row column"],
    values: Float[Tensor, "pixel wide"],
    rows: slice,
    columns: slice,
) -> None:
    """Add one block's share of (S values)^T to `sums`, for a symmetric matrix S.

    The block serves its rows and, off the diagonal, its columns. The sums are kept transposed, because a BLAS
    product with few columns is up to four times slower than one with few rows.
    """
    sums[:, rows].addmm_(values[columns].t(), block.t())
    if rows != columns:
        sums[:, columns].addmm_(values[rows].t(), block)
