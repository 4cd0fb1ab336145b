"""Where the tiles of an image lie, and the part of each that it is responsible for."""

from itertools import pairwise
from typing import Literal, NamedTuple

from rpe.structures import UserError

WHOLE = 2**21
"""Pixels (2 megapixels) up to which "auto" leaves an image whole, to bound the memory."""

SIDE = 1024
"""Of the tiles that "auto" cuts larger images into, at least."""

Side = int | Literal["auto"] | None
"""Of tiles, in pixels of the network's image. None never cuts; "auto" cuts images of more than `WHOLE` pixels."""


class Tile(NamedTuple):
    """Rows and columns of a tile, and of its core; the cores of an image's tiles share no pixel and leave none out."""

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def tiles_of(size: tuple[int, int], tile: Side, overlap: int, multiple: int) -> list[Tile]:
    """The tiles of an image of (height, width), row by row; one if it fits into a tile.

    Args:
        size: of the image as the network sees it.
        tile: see `Side`.
        overlap: of two neighbours, at least.
        multiple: tiles start at multiples of it, at which an embedding that depends on the place says the same of the same place.

    Raises:
        UserError: no step is left between two tiles.
    """
    if tile == "auto":
        tile = max(SIDE, overlap + multiple) if size[0] * size[1] > WHOLE else None
    if tile is not None and max(size) > tile:
        check_step(tile, overlap, multiple)
    rows, columns = (spans(length, tile, overlap, multiple) for length in size)
    return [
        Tile(row, column, core_row, core_column) for row, core_row in rows for column, core_column in columns
    ]


def check_step(tile: int, overlap: int, multiple: int) -> None:
    """Refuse tiles of which the next would start where this one does.

    Raises:
        UserError: no step is left between two tiles.
    """
    if (tile - overlap) // multiple < 1:
        raise UserError(
            f"tile {tile} less overlap {overlap} is below {multiple}, the pixels after which the embedding's coordinates repeat: "
            f"set tile={multiple + overlap} or more"
        )


def spans(length: int, tile: int | None, overlap: int, multiple: int) -> list[tuple[slice, slice]]:
    """Along one axis, the tiles and their cores."""
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


def within(outer: slice, inner: slice) -> slice:
    """`inner` as counted from the start of `outer`."""
    return slice(inner.start - outer.start, inner.stop - outer.start)


def place(tile: Tile, box: tuple[slice, slice]) -> tuple[slice, slice]:
    """A box of a tile in the image."""
    return shifted(box[0], tile.rows.start), shifted(box[1], tile.columns.start)


def shifted(span: slice, by: int) -> slice:
    """The span, so much further on."""
    return slice(span.start + by, span.stop + by)
