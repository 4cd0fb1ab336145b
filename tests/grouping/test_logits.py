"""The logits' blocks against dense algebra, near in the image and far apart."""

import pytest
import torch

from rpe.grouping.logits import BITS, Logits, iterate_logits
from rpe.sphere import normalise


@pytest.mark.parametrize("extent", [None, 3.0, 30.0, 3000.0])
def test_tiles_are_cosine_and_squared_distance(extent: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpe.grouping.logits.BLOCK", 8)
    queries, keys = normalise(torch.randn(70, 5)), normalise(torch.randn(50, 5))
    here, there = (None, None) if extent is None else (extent * torch.rand(70, 2), extent * torch.rand(50, 2))
    found = torch.full((70, 50), torch.nan)
    for rows, columns, block in iterate_logits(Logits(queries, keys, torch.tensor(20.0), here, there, 2.0)):
        found[rows, columns] = block
    wanted = 20 * (queries.double() @ keys.double().T - 1)
    if here is not None and there is not None:
        wanted = wanted - (here.double()[:, None] - there.double()).square().sum(-1) / 8
    torch.testing.assert_close(found.double() / BITS, wanted, atol=1e-4, rtol=1e-5)
