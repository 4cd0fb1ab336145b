"""Stitch the objects of all tiles into one label map.

Two tiles see the pixels of their overlap. Their labels there tell which of their objects are the same one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, Int64
from scipy.ndimage import find_objects

from rpe.segment.instances import Instances
from rpe.segment.tiles import Tile, place_box, relative_slice, shift_slice
from rpe.structures import BACKGROUND, Proposals

CLOSE = 0.9
"""Calibrated similarity of modes at which two tiles' objects are the same one, if half of the smaller shared
part lies in the other one's."""

LIKELY = 0.75
"""Calibrated similarity at which they are the same one, if the shared parts have an intersection over union
of 1/2. Training pushes different objects below the margin, 1/2 by default; this is half-way between it and
1."""


@dataclass
class Piece:
    """The objects of one tile: labels 1, 2, .. of its pixels, and each object's score, mode and class.

    The class is 0 where the network has no classes. `proposals` are all ranked masks of the tile.
    """

    labels: Int32[np.ndarray, "height width"]
    scores: Float[np.ndarray, " object"]
    modes: Float[np.ndarray, "object dim"]
    classes: Int64[np.ndarray, " object"]
    proposals: Proposals | None = None


Key = tuple[int, int]
"""Tile and label of an object."""


class Member(NamedTuple):
    """An object as one tile sees it.

    `tile` is the tile's number, `label` the object's label there, `area` its pixels in the tile and `in_core`
    its pixels in the tile's core. `cut` is True if the tile cuts the object. `core_box` is the box of its
    pixels in the core, in coordinates of the image; None if it has none.
    """

    tile: int
    label: int
    area: int
    in_core: int
    cut: bool
    core_box: tuple[slice, slice] | None

    @property
    def key(self) -> Key:
        """Return the member's key among all tiles."""
        return self.tile, self.label


def stitch_tiles(tiles: list[Tile], pieces: list[Piece], size: tuple[int, int]) -> Instances:
    """Stitch the tiles' objects into one label map of (height, width).

    Objects of two tiles that agree on their overlap (`match_objects`) are one object. If a tile sees it whole
    (`choose_masks`), that tile's mask counts, and only if most of it lies in the tile's core. If all tiles
    cut it, its parts are united. Overlaps are resolved as in `select_instances`: in the order of the scores,
    each object claims the free pixels of its mask, and is dropped if less than half of them are free. A
    single tile keeps its labels.
    """
    members = [
        list_members(number, tile, piece, size)
        for number, (tile, piece) in enumerate(zip(tiles, pieces, strict=True))
    ]
    first = [0, *accumulate(len(mine) for mine in members)]
    parent = np.arange(first[-1])
    same: set[tuple[Key, Key]] = set()
    for one in range(len(tiles)):
        for other in range(one + 1, len(tiles)):
            for mine, theirs in match_objects(tiles[one], pieces[one], tiles[other], pieces[other]):
                same |= {((one, mine), (other, theirs))}
                parent[find_root(parent, first[other] + theirs - 1)] = find_root(
                    parent, first[one] + mine - 1
                )
    groups: dict[int, list[Member]] = {}
    for number, member in enumerate(member for mine in members for member in mine):
        groups.setdefault(find_root(parent, number), []).append(member)
    objects = [chosen for group in groups.values() for chosen in choose_masks(group, tiles, same)]
    return paint_objects(objects, tiles, pieces, size)


def find_root(parent: Int64[np.ndarray, " member"], number: int) -> int:
    """Return the representative of a member's set, and halve the paths to it."""
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = int(parent[number])
    return int(number)


def list_members(number: int, tile: Tile, piece: Piece, size: tuple[int, int]) -> list[Member]:
    """Return the objects of a tile. The tile cuts an object that touches a tile edge inside the image."""
    labels, count = piece.labels, len(piece.scores)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    core = labels[relative_slice(tile.rows, tile.core_rows), relative_slice(tile.columns, tile.core_columns)]
    in_core = np.bincount(core.ravel(), minlength=count + 1)
    boxes = [
        box and (shift_slice(box[0], tile.core_rows.start), shift_slice(box[1], tile.core_columns.start))
        for box in find_objects(core, count)
    ]
    edges = [
        edge
        for edge, inner in (
            (labels[0], tile.rows.start > 0),
            (labels[-1], tile.rows.stop < size[0]),
            (labels[:, 0], tile.columns.start > 0),
            (labels[:, -1], tile.columns.stop < size[1]),
        )
        if inner
    ]
    cut = np.zeros(count + 1, dtype=bool)
    for edge in edges:
        cut[edge] = True
    return [
        Member(number, label, int(area[label]), int(in_core[label]), bool(cut[label]), boxes[label - 1])
        for label in range(1, count + 1)
    ]


def match_objects(tile: Tile, piece: Piece, other: Tile, beside: Piece) -> Iterator[tuple[int, int]]:
    """Yield pairs of labels of two tiles that are the same object, by the pixels of their overlap.

    Either the two parts have an intersection over union of 1/2 and the modes are likely the same. Or half of
    the smaller part lies in the other one and the modes are close, for example where a tile cuts an object in
    two.

    Args:
        tile: one tile.
        piece: its objects.
        other: a tile beside it.
        beside: the objects of that tile.
    """
    rows = slice(max(tile.rows.start, other.rows.start), min(tile.rows.stop, other.rows.stop))
    columns = slice(max(tile.columns.start, other.columns.start), min(tile.columns.stop, other.columns.stop))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    here = cut_labels(tile, piece, rows, columns).ravel()
    there = cut_labels(other, beside, rows, columns).ravel()
    areas = (
        np.bincount(here, minlength=len(piece.scores) + 1),
        np.bincount(there, minlength=len(beside.scores) + 1),
    )
    both = (here != BACKGROUND) & (there != BACKGROUND)
    codes, shared = np.unique(here[both].astype(np.int64) * len(areas[1]) + there[both], return_counts=True)
    for mine, theirs, pixels in zip(*np.divmod(codes, len(areas[1])), shared, strict=True):
        smaller, larger = sorted((int(areas[0][mine]), int(areas[1][theirs])))
        similarity = (1 + float(piece.modes[mine - 1] @ beside.modes[theirs - 1])) / 2
        agree = 2 * pixels >= smaller + larger - pixels and similarity >= LIKELY
        if agree or (2 * pixels >= smaller and similarity >= CLOSE):
            yield int(mine), int(theirs)


def cut_labels(tile: Tile, piece: Piece, rows: slice, columns: slice) -> Int32[np.ndarray, "_ _"]:
    """Return a tile's labels in a box of the image."""
    return piece.labels[relative_slice(tile.rows, rows), relative_slice(tile.columns, columns)]


def covers(tile: Tile, member: Member) -> bool:
    """Return True if a tile contains the whole part of an object that lies in its own tile's core."""
    if member.core_box is None:
        return True
    spans = zip((tile.rows, tile.columns), member.core_box, strict=True)
    return all(outer.start <= inner.start and inner.stop <= outer.stop for outer, inner in spans)


def choose_masks(group: list[Member], tiles: list[Tile], same: set[tuple[Key, Key]]) -> list[list[Member]]:
    """Return the members of one object whose masks count.

    These are the whole members that lie mostly in their tile's core, else the best whole member; without a
    whole member all of them. A member is whole if its tile does not cut it, and contains the parts of the
    object in the cores of the other tiles.
    """
    whole = [
        member
        for member in group
        if not member.cut and all(covers(tiles[member.tile], other) for other in group)
    ]
    mostly = [member for member in whole if 2 * member.in_core >= member.area]
    if mostly or (whole and len(group) > 1):
        return merge_members(mostly, same) or [[max(whole, key=lambda member: member.in_core / member.area)]]
    # A lone member outside its tile's core is dropped: the tile that decides there sees something else.
    return [] if whole else [group]


def merge_members(members: list[Member], same: set[tuple[Key, Key]]) -> list[list[Member]]:
    """Merge members of different tiles that are the same object.

    Two members of one tile always stay two objects.
    """
    if len({member.tile for member in members}) < len(members):
        return [[member] for member in members]
    sets: list[list[Member]] = []
    for member in members:
        linked = [one for one in sets if any((other.key, member.key) in same for other in one)]
        sets = [one for one in sets if one not in linked] + [
            [*(other for one in linked for other in one), member]
        ]
    return sets


def paint_objects(
    objects: list[list[Member]], tiles: list[Tile], pieces: list[Piece], size: tuple[int, int]
) -> Instances:
    """Paint the masks into one label map, best score first.

    Args:
        objects: the members of each object.
        tiles: of the image.
        pieces: the objects of each tile.
        size: (height, width) of the image.
    """
    boxes = [find_objects(piece.labels, len(piece.scores)) for piece in pieces]
    scores = [
        sum(member.area * float(pieces[member.tile].scores[member.label - 1]) for member in one)
        / sum(m.area for m in one)
        for one in objects
    ]
    canvas = np.full(size, BACKGROUND, dtype=np.int32)
    kept: list[int] = []
    for index in np.argsort(-np.array(scores), kind="stable").tolist():
        one = objects[index]
        placed = [
            (*place_box(tiles[member.tile], boxes[member.tile][member.label - 1]), member) for member in one
        ]
        rows = slice(min(row.start for row, _, _ in placed), max(row.stop for row, _, _ in placed))
        columns = slice(
            min(column.start for _, column, _ in placed), max(column.stop for _, column, _ in placed)
        )
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        for row, column, member in placed:
            labels = cut_labels(tiles[member.tile], pieces[member.tile], row, column)
            mask[relative_slice(rows, row), relative_slice(columns, column)] |= labels == member.label
        area = int(mask.sum())
        if len(one) == 1 and one[0].cut and 2 * one[0].in_core < area:
            continue
        if len(one) > 1 and 2 * sum(member.in_core for member in one) < area:
            continue
        free = mask & (canvas[rows, columns] == BACKGROUND)
        if 2 * int(free.sum()) >= area:
            kept.append(index)
            canvas[rows, columns][free] = BACKGROUND + len(kept)
    largest = [max(objects[index], key=lambda member: member.area) for index in kept]
    classes = np.array([pieces[member.tile].classes[member.label - 1] for member in largest], dtype=np.int64)
    return Instances(canvas, np.array([scores[index] for index in kept], dtype=np.float64), classes)


def resize_labels(labels: Int32[np.ndarray, "_ _"], size: tuple[int, int]) -> Int32[np.ndarray, "_ _"]:
    """Resize a label map to (height, width) by nearest neighbour."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
