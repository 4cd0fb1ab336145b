import torch

from rpe.pairs import NARROW, tile_of, upper_tiles, widen


def test_upper_tiles_meet_every_pair_once() -> None:
    met = torch.zeros(10, 10)
    for rows, columns in upper_tiles(10, 4):
        met[rows, columns] += 1
        if rows != columns:
            met[columns, rows] += 1
    assert (met == 1).all()


def test_tile_of_is_the_product() -> None:
    left, right = torch.randn(3, 5), torch.randn(4, 5)
    assert torch.allclose(tile_of(torch.empty(20), left, right), left @ right.T)


def test_widen_appends_zeros_only() -> None:
    columns = [torch.randn(6, 3), torch.randn(6, 1)]
    wide = widen(columns)
    assert wide.shape == (6, NARROW) and torch.equal(wide[:, :4], torch.cat(columns, 1)) and (wide[:, 4:] == 0).all()
    assert widen([torch.randn(6, 40)]).shape == (6, 40)
