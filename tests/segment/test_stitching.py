import numpy as np
import pytest
from skimage import measure

from rpe.segment import Piece, Tile, cut_tiles, relative_slice, resize_labels, stitch_tiles
from rpe.segment.stitching import match_objects


def cut_into(labels: np.ndarray, tiles: list[Tile], dimension: int = 64) -> list[Piece]:
    """What a perfect network says of each tile: its own numbers from 1 for the objects that it sees, each at an axis of its own."""
    pieces = []
    for tile in tiles:
        part = labels[tile.rows, tile.columns]
        present = np.unique(part[part > 0])
        number = np.zeros(labels.max() + 1, dtype=np.int32)
        number[present] = np.arange(1, len(present) + 1)
        modes = np.eye(dimension)[present]
        pieces.append(Piece(number[part], present / 1000, modes, np.zeros(len(present), dtype=np.int64)))
    return pieces


def partition_of(labels: np.ndarray) -> set[frozenset[int]]:
    return {
        frozenset(np.flatnonzero(labels.ravel() == label).tolist()) for label in np.unique(labels) if label
    }


def test_objects_of_any_size_come_through_as_they_are() -> None:
    labels = np.zeros((200, 180), dtype=np.int64)
    labels[20:190, 10:170] = 1  # larger than any tile
    labels[60:70, 60:70] = 2  # in the corners of four tiles
    labels[90:130, 20:24] = 3  # across a border
    labels[5:9, 5:9] = 4
    random = np.random.default_rng(0)
    for number in range(5, 60):
        row, column = random.integers(0, 195), random.integers(0, 175)
        labels[row : row + random.integers(2, 12), column : column + random.integers(2, 12)] = number
    tiles = cut_tiles(labels.shape, 64, 24, 8)
    found = stitch_tiles(tiles, cut_into(labels, tiles), labels.shape)
    assert len(tiles) > 12
    assert partition_of(found.labels) == partition_of(labels)
    assert np.array_equal(found.labels > 0, labels > 0)
    # the best first, each with its own score
    for label, score in enumerate(found.scores, start=1):
        assert score == pytest.approx(labels[found.labels == label][0] / 1000)
    assert (np.diff(found.scores) <= 0).all()


def test_a_single_tile_stays_as_it_is() -> None:
    labels = np.zeros((20, 30), dtype=np.int32)
    labels[:5, :5], labels[10:20, 3:30], labels[0:8, 20:25] = 1, 2, 3
    piece = Piece(labels, np.array([0.9, 0.9, 0.2]), np.eye(3), np.array([3, 1, 2]))
    found = stitch_tiles(cut_tiles((20, 30), 64, 16, 8), [piece], (20, 30))
    assert (
        np.array_equal(found.labels, labels)
        and found.scores.tolist() == [0.9, 0.9, 0.2]
        and found.classes.tolist() == [3, 1, 2]
    )


def two_tiles(
    left: np.ndarray, right: np.ndarray, modes: tuple[np.ndarray, np.ndarray]
) -> tuple[list[Tile], list[Piece]]:
    """Two tiles of 16 x 24 that share 8 columns of 16 x 40."""
    tiles = [
        Tile(slice(0, 16), slice(0, 24), slice(0, 16), slice(0, 20)),
        Tile(slice(0, 16), slice(16, 40), slice(0, 16), slice(20, 40)),
    ]
    pieces = [
        Piece(one.astype(np.int32), np.full(len(mode), 0.5), mode, np.zeros(len(mode), dtype=np.int64))
        for one, mode in zip((left, right), modes, strict=True)
    ]
    return tiles, pieces


def bars(left: int, right: int, rows: slice = slice(4, 12)) -> tuple[np.ndarray, np.ndarray]:
    whole = np.zeros((16, 40), dtype=np.int64)
    whole[rows, left:right] = 1
    return whole[:, :24], whole[:, 16:]


def direction(degrees: float) -> np.ndarray:
    return np.array([[np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))]])


def test_modes_decide_where_the_pixels_alone_do_not() -> None:
    left, right = bars(2, 38)
    for degrees, same in ((0, True), (50, True), (70, False), (180, False)):
        tiles, pieces = two_tiles(left, right, (direction(0), direction(degrees)))
        assert (list(match_objects(tiles[0], pieces[0], tiles[1], pieces[1])) == [(1, 1)]) == same, degrees
        assert (len(stitch_tiles(tiles, pieces, (16, 40)).scores) == 1) == same
    # where the left tile sees two rows of an object that the right one sees whole, only close modes make them one
    prong = np.where(np.arange(16)[:, None] < 6, left, 0)
    for degrees, same in ((30, True), (45, False)):
        tiles, pieces = two_tiles(prong, right, (direction(0), direction(degrees)))
        assert bool(list(match_objects(tiles[0], pieces[0], tiles[1], pieces[1]))) == same, degrees


def test_of_what_a_tile_cuts_the_tile_that_sees_it_whole_decides() -> None:
    left, right = bars(17, 30)
    spoilt = left.copy()
    spoilt[4, 17:24] = 0  # so near to its border the left tile errs, and names another mode
    tiles, pieces = two_tiles(spoilt, right, (direction(0), direction(90)))
    found = stitch_tiles(tiles, pieces, (16, 40))
    assert len(found.scores) == 1 and np.array_equal(found.labels[:, 16:], right)
    tiles, pieces = two_tiles(spoilt, right, (direction(0), direction(0)))
    assert np.array_equal(stitch_tiles(tiles, pieces, (16, 40)).labels[:, 16:], right)


def test_what_the_responsible_tile_does_not_see_is_nothing() -> None:
    left, _ = bars(21, 24)
    tiles, pieces = two_tiles(left, np.zeros((16, 24)), (direction(0), np.zeros((0, 2))))
    assert not stitch_tiles(tiles, pieces, (16, 40)).labels.any()
    left, _ = bars(12, 19)
    tiles, pieces = two_tiles(left, np.zeros((16, 24)), (direction(0), np.zeros((0, 2))))
    assert stitch_tiles(tiles, pieces, (16, 40)).labels.sum() == left.sum()


def test_enlarged_takes_the_pixel_under_each_centre() -> None:
    labels = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert np.array_equal(resize_labels(labels, (4, 6)), labels.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(resize_labels(labels, (2, 3)), labels)
    assert relative_slice(slice(10, 30), slice(12, 15)) == slice(2, 5)


def test_objects_of_several_parts_stay_one() -> None:
    labels = np.zeros((64, 200), dtype=np.int64)
    labels[5:15, 30:40] = labels[5:15, 70:90] = labels[30:40, 70:90] = (
        1  # the first tile sees two parts whole, the third part is its neighbour's
    )
    labels[5:15, 110:140] = labels[5:15, 160:165] = 2
    tiles = [*cut_tiles((64, 200), 96, 32, 8)]
    found = stitch_tiles(tiles, cut_into(labels, tiles), labels.shape)
    assert partition_of(found.labels) == partition_of(labels)


@pytest.mark.parametrize("seed", range(8))
def test_objects_come_through_unless_no_tile_sees_their_parts_together(seed: int) -> None:
    """Forty rectangles over each other. What one tile sees whole, and what is in one piece, stays as it is."""
    random = np.random.default_rng(seed)
    labels = np.zeros((400, 400), dtype=np.int64)
    for number in range(1, 41):
        row, column = random.integers(0, 395, 2)
        height, width = random.integers(5, 120, 2)
        labels[row : row + height, column : column + width] = number
    tiles = cut_tiles(labels.shape, 128, 32, 8)
    stitched = stitch_tiles(tiles, cut_into(labels, tiles), labels.shape).labels
    assert np.array_equal(stitched > 0, labels > 0)
    broken = partition_of(labels) - partition_of(stitched)
    for pixels in broken:
        mask = np.zeros(labels.size, dtype=bool)
        mask[sorted(pixels)] = True
        mask = mask.reshape(labels.shape)
        assert measure.label(mask, connectivity=2).max() > 1, "an object in one piece is broken"
        assert not any(mask[tile.rows, tile.columns].sum() == mask.sum() for tile in tiles)
        parts = stitched[mask]
        assert set(np.unique(parts)).isdisjoint(stitched[~mask]), "its parts are joined with others"


def test_two_whole_views_of_one_object_are_one() -> None:
    right, left = np.zeros((16, 24)), np.zeros((16, 24))
    right[4:12, 2:7], left[4:7, 17:21] = 1, 1
    tiles, pieces = two_tiles(left, right, (direction(0), direction(10)))
    pieces[0].scores[:] = 0.9  # would be drawn first, and leave the rest as another object
    found = stitch_tiles(tiles, pieces, (16, 40))
    assert len(found.scores) == 1 and np.array_equal(
        found.labels[:, 16:], np.maximum(right, np.pad(left[:, 16:], ((0, 0), (0, 16))))
    )
