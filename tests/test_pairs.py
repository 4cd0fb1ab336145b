import pytest
import torch

from rpe.pairs import add_products, morton_order, multiply_block, upper_blocks, validate_positions
from rpe.structures import UserError


def test_positions_in_use_are_finite_and_in_floating_point() -> None:
    positions = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])
    assert validate_positions(positions, torch.tensor([True, False])) is positions
    assert (
        validate_positions(torch.ones(2, 2, dtype=torch.uint8), torch.tensor([True, True])).dtype
        == torch.float64
    )
    with pytest.raises(UserError, match="positions must be finite, got 1"):
        validate_positions(positions, torch.tensor([False, True]))


def test_upper_blocks_meet_every_pair_once() -> None:
    met = torch.zeros(10, 10)
    for rows, columns in upper_blocks(10, 4):
        met[rows, columns] += 1
        if rows != columns:
            met[columns, rows] += 1
    assert (met == 1).all()


def test_tile_of_is_the_product() -> None:
    left, right = torch.randn(3, 5), torch.randn(4, 5)
    assert torch.allclose(multiply_block(torch.empty(20), left, right), left @ right.T)


def test_add_products_of_the_upper_blocks_are_the_product() -> None:
    matrix, values = torch.randn(10, 10), torch.randn(10, 3)
    matrix = matrix + matrix.T
    sums = torch.zeros(3, 10)
    for rows, columns in upper_blocks(10, 4):
        add_products(sums, matrix[rows, columns], values, rows, columns)
    assert torch.allclose(sums, (matrix @ values).T, atol=1e-5)


def test_tiles_out_of_reach_are_left_out_and_no_pair_in_reach() -> None:
    positions = torch.rand(300, 2) * 20
    order = morton_order(positions)
    assert torch.equal(order.sort().values, torch.arange(300))
    positions = positions[order]
    met = torch.zeros(300, 300, dtype=torch.bool)
    for rows, columns in upper_blocks(300, 16, positions, max_distance=2.0):
        met[rows, columns] = True
        met[columns, rows] = True
    near = torch.cdist(positions, positions) <= 2
    assert bool(met[near].all()) and float(met.float().mean()) < 0.5


@pytest.mark.parametrize(("gap", "blocks"), [(1.9, 3), (2.0, 3), (2.1, 2)])
def test_reach_is_a_distance(gap: float, blocks: int) -> None:
    assert len(list(upper_blocks(2, 1, torch.tensor([[0.0, 0.0], [0.0, gap]]), max_distance=2.0))) == blocks
