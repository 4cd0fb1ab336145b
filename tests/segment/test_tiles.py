from itertools import pairwise

import numpy as np
import pytest

from rpe.segment import cut_tiles
from rpe.structures import UserError


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "multiple"),
    [((300, 201), 64, 16, 8), ((64, 65), 64, 10, 1), ((10, 500), 48, 8, 32), ((5, 5), 64, 16, 8)],
)
def test_tiles_start_at_multiples_overlap_and_their_cores_share_nothing(
    size: tuple[int, int], tile: int, overlap: int, multiple: int
) -> None:
    tiles = cut_tiles(size, tile, overlap, multiple)
    seen = np.zeros(size, dtype=int)
    for one in tiles:
        assert one.rows.start % multiple == one.columns.start % multiple == 0 and max(one.size) <= tile
        assert one.rows.start <= one.core_rows.start < one.core_rows.stop <= one.rows.stop
        seen[one.core_rows, one.core_columns] += 1
    assert (seen == 1).all() and tiles[-1].rows.stop == size[0] and tiles[-1].columns.stop == size[1]
    along = sorted({(one.rows.start, one.rows.stop) for one in tiles})
    assert all(before[1] - after[0] >= overlap for before, after in pairwise(along))


def test_a_tile_without_a_step_is_refused_and_none_never_cuts() -> None:
    with pytest.raises(
        UserError, match="tile must be >= 1328, got 512. Tiles of overlap 128 .*Set tile=1328"
    ):
        cut_tiles((600, 10), 512, 128, 1200)
    assert len(cut_tiles((600, 900), None, 128, 1200)) == len(cut_tiles((512, 300), 512, 128, 1200)) == 1
