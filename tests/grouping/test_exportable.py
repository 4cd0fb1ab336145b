from collections.abc import Callable

import pytest
import torch

from rpe.grouping import mean_shift
from rpe.grouping.exportable import FixedMeanShift
from rpe.structures import UserError


def test_it_is_mean_shift(clustered: Callable[..., torch.Tensor]) -> None:
    points = torch.stack([clustered(200, 5, seed=seed) for seed in (0, 1)])
    mask = torch.rand(2, 200) > 0.3
    found = FixedMeanShift(11.1, 4)(points, mask)
    wanted = mean_shift(points, 11.1, 4, mask=mask)[-1]
    assert torch.allclose(found, wanted, atol=2e-6) and torch.equal(found[~mask], points[~mask])


def test_what_is_absent_may_be_anything() -> None:
    points = torch.nn.functional.normalize(torch.randn(1, 6, 3), dim=-1)
    mask = torch.tensor([[True, True, True, True, False, False]])
    points[0, 4:] = float("nan")
    found = FixedMeanShift(4.0, 3)(points, mask)
    assert torch.allclose(found[:, :4], mean_shift(points[:, :4], 4.0, 3)[-1], atol=2e-6) and bool(
        found[0, 4:].isnan().all()
    )
    assert bool(FixedMeanShift(4.0, 3)(points, torch.zeros_like(mask))[0, :4].isfinite().all()), (
        "an image without a point"
    )


def test_slips() -> None:
    with pytest.raises(UserError, match="concentration"):
        FixedMeanShift(1e9, 1)
    with pytest.raises(UserError, match="iterations"):
        FixedMeanShift(10.0, -1)
