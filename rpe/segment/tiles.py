"""Cut an image into overlapping tiles, and find the core of each."""

from itertools import pairwise
from typing import Literal, NamedTuple

from rpe.structures import UserError

WHOLE = 2**21
"""Pixels (2 megapixels) up to which "auto" leaves an image whole, to bound the memory."""

SIDE = 1024
"""Least side in pixels of the tiles that "auto" cuts larger images into."""

Side = int | Literal["auto"] | None
"""Side of tiles in pixels of the network's image. None never cuts; "auto" cuts images of more than `WHOLE`
pixels."""


class Tile(NamedTuple):
    """Rows and columns of a tile, and of its core. The cores of all tiles partition the image."""

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def cut_tiles(size: tuple[int, int], tile: Side, overlap: int, multiple: int) -> list[Tile]:
    """Return the tiles of an image, row by row; a single tile if the image fits into it.

    Args:
        size: (height, width) of the network's image.
        tile: see `Side`.
        overlap: least overlap of two neighbours.
        multiple: tiles start at multiples of it, where embeddings that depend on coordinates repeat.

    Raises:
        UserError: no step is left between two tiles.
    """
    if tile == "auto":
        tile = max(SIDE, overlap + multiple) if size[0] * size[1] > WHOLE else None
    if tile is not None and max(size) > tile:
        check_step(tile, overlap, multiple)
    rows, columns = (cut_axis(length, tile, overlap, multiple) for length in size)
    return [
        Tile(row, column, core_row, core_column) for row, core_row in rows for column, core_column in columns
    ]


def check_step(tile: int, overlap: int, multiple: int) -> None:
    """Check that the next tile starts after this one.

    Raises:
        UserError: no step is left between two tiles.
    """
    if (tile - overlap) // multiple < 1:
        raise UserError(
            f"tile must be >= {multiple + overlap}, got {tile}. "
            f"Tiles of overlap {overlap} need a step of {multiple}, the pixels after which the network's "
            f"grids and the embedding's coordinates repeat. Set tile={multiple + overlap} or more."
        )


def cut_axis(length: int, tile: int | None, overlap: int, multiple: int) -> list[tuple[slice, slice]]:
    """Return the tiles along one axis, each with its core."""
    if tile is None or length <= tile:
        return [(slice(0, length), slice(0, length))]
    step = (tile - overlap) // multiple * multiple
    last = -(-(length - tile) // multiple) * multiple
    starts = [*range(0, last, step), last]
    ends = [*(start + tile for start in starts[:-1]), length]
    edges = [0, *((end + start) // 2 for end, start in zip(ends[:-1], starts[1:], strict=True)), length]
    return [
        (slice(*span), slice(*core))
        for span, core in zip(zip(starts, ends, strict=True), pairwise(edges), strict=True)
    ]


def relative_slice(outer: slice, inner: slice) -> slice:
    """Return `inner` counted from the start of `outer`."""
    return slice(inner.start - outer.start, inner.stop - outer.start)


def place_box(tile: Tile, box: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return a box of a tile in coordinates of the image."""
    return shift_slice(box[0], tile.rows.start), shift_slice(box[1], tile.columns.start)


def shift_slice(span: slice, offset: int) -> slice:
    """Return the slice moved by `offset`."""
    return slice(span.start + offset, span.stop + offset)
