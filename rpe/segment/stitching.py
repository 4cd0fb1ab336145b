"""The objects of all tiles as one label map. What two tiles say of the pixels that both see tells which of their objects are one."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, Int64
from scipy.ndimage import find_objects

from rpe.segment.instances import Instances
from rpe.segment.tiles import Tile, place, shifted, within
from rpe.structures import BACKGROUND

CLOSE = 0.9
"""Calibrated similarity of modes from which two tiles' objects are one if half of the smaller one's shared part lies in the other's."""

LIKELY = 0.75
"""The same if the shared parts have an intersection over union of 1/2. Different objects are trained to lie below the margin, 1/2 as shipped; this is half-way from there
to 1."""


@dataclass
class Piece:
    """The objects of one tile: labels 1, 2, .. on its pixels, and of each its score, its mode and its class (0 where there are no classes)."""

    labels: Int32[np.ndarray, "height width"]
    scores: Float[np.ndarray, " object"]
    modes: Float[np.ndarray, "object dim"]
    classes: Int64[np.ndarray, " object"]


Key = tuple[int, int]
"""Tile and label of an object."""


class Member(NamedTuple):
    """An object of a tile: which tile, which label, the pixels that it has there, how many of them in the tile's core, whether the tile cuts it, and the box in
    the image of what lies in the core; None where nothing does."""

    tile: int
    label: int
    area: int
    in_core: int
    cut: bool
    core_box: tuple[slice, slice] | None

    @property
    def key(self) -> Key:
        """Names it in the image."""
        return self.tile, self.label


def stitched(tiles: list[Tile], pieces: list[Piece], size: tuple[int, int]) -> Instances:
    """One label map of the tiles' objects.

    Objects of two tiles that agree on what both see (`same_objects`) are one. Of one that some tile sees whole (`chosen_of`), that tile's mask counts,
    and only there where most of it lies in the tile's core; of one that all tiles cut, all parts together do. What overlaps is settled as by `select_instances`: best
    score first, each takes the free pixels of its mask and is dropped when less than half of it is left. A single tile's labels stay as they are.
    """
    members = [
        members_of(number, tile, piece, size)
        for number, (tile, piece) in enumerate(zip(tiles, pieces, strict=True))
    ]
    first = [0, *accumulate(len(mine) for mine in members)]
    parent = np.arange(first[-1])
    same: set[tuple[Key, Key]] = set()
    for one in range(len(tiles)):
        for other in range(one + 1, len(tiles)):
            for mine, theirs in same_objects(tiles[one], pieces[one], tiles[other], pieces[other]):
                same |= {((one, mine), (other, theirs))}
                parent[root(parent, first[other] + theirs - 1)] = root(parent, first[one] + mine - 1)
    groups: dict[int, list[Member]] = {}
    for number, member in enumerate(member for mine in members for member in mine):
        groups.setdefault(root(parent, number), []).append(member)
    objects = [chosen for group in groups.values() for chosen in chosen_of(group, tiles, same)]
    return painted(objects, tiles, pieces, size)


def root(parent: Int64[np.ndarray, " member"], number: int) -> int:
    """The representative of a member's set; paths are halved on the way."""
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = int(parent[number])
    return int(number)


def members_of(number: int, tile: Tile, piece: Piece, size: tuple[int, int]) -> list[Member]:
    """The objects of a tile. It cuts those that reach an edge of it that is none of the image's."""
    labels, count = piece.labels, len(piece.scores)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    core = labels[within(tile.rows, tile.core_rows), within(tile.columns, tile.core_columns)]
    in_core = np.bincount(core.ravel(), minlength=count + 1)
    boxes = [
        box and (shifted(box[0], tile.core_rows.start), shifted(box[1], tile.core_columns.start))
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


def same_objects(tile: Tile, piece: Piece, other: Tile, beside: Piece) -> Iterator[tuple[int, int]]:
    """Pairs of labels of two tiles that are one object by the pixels that both tiles see.

    Either their parts there have an intersection over union of 1/2 and their modes are not those of different objects, or half of the smaller part lies in
    the other's and the modes are close: the parts of one object that a tile cuts into two, say.
    """
    rows = slice(max(tile.rows.start, other.rows.start), min(tile.rows.stop, other.rows.stop))
    columns = slice(max(tile.columns.start, other.columns.start), min(tile.columns.stop, other.columns.stop))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    here = piece.labels[within(tile.rows, rows), within(tile.columns, columns)].ravel()
    there = beside.labels[within(other.rows, rows), within(other.columns, columns)].ravel()
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


def covers(tile: Tile, member: Member) -> bool:
    """Whether a tile sees all that another one says of an object in that one's core."""
    if member.core_box is None:
        return True
    spans = zip((tile.rows, tile.columns), member.core_box, strict=True)
    return all(outer.start <= inner.start and inner.stop <= outer.stop for outer, inner in spans)


def chosen_of(group: list[Member], tiles: list[Tile], same: set[tuple[Key, Key]]) -> list[list[Member]]:
    """The members whose masks count: the whole ones that lie mostly in their tile's core, else the best whole one; without a whole one all together.

    A tile sees an object whole if it neither cuts it nor misses a part of it that another tile is responsible for, as of one in several parts.
    """
    whole = [
        member
        for member in group
        if not member.cut and all(covers(tiles[member.tile], other) for other in group)
    ]
    mostly = [member for member in whole if 2 * member.in_core >= member.area]
    if mostly or (whole and len(group) > 1):
        return united(mostly, same) or [[max(whole, key=lambda member: member.in_core / member.area)]]
    # whole in one tile alone, and there outside of its core: the tile that is responsible sees something else
    return [] if whole else [group]


def united(members: list[Member], same: set[tuple[Key, Key]]) -> list[list[Member]]:
    """Those of different tiles that are one object together; two of one tile are two objects, whatever another tile says."""
    if len({member.tile for member in members}) < len(members):
        return [[member] for member in members]
    sets: list[list[Member]] = []
    for member in members:
        linked = [one for one in sets if any((other.key, member.key) in same for other in one)]
        sets = [one for one in sets if one not in linked] + [
            [*(other for one in linked for other in one), member]
        ]
    return sets


def painted(
    objects: list[list[Member]], tiles: list[Tile], pieces: list[Piece], size: tuple[int, int]
) -> Instances:
    """The masks on one map, the best score first."""
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
            (*place(tiles[member.tile], boxes[member.tile][member.label - 1]), member) for member in one
        ]
        rows = slice(min(row.start for row, _, _ in placed), max(row.stop for row, _, _ in placed))
        columns = slice(
            min(column.start for _, column, _ in placed), max(column.stop for _, column, _ in placed)
        )
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        for row, column, member in placed:
            inside = (
                pieces[member.tile].labels[
                    within(tiles[member.tile].rows, row), within(tiles[member.tile].columns, column)
                ]
                == member.label
            )
            mask[within(rows, row), within(columns, column)] |= inside
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


def enlarged(labels: Int32[np.ndarray, "_ _"], size: tuple[int, int]) -> Int32[np.ndarray, "_ _"]:
    """A label map at another size, by the pixel in which each new centre lies."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
