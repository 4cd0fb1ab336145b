"""Everything that a caller of mean shift can get wrong."""

import pytest
import torch

from rpe.grouping import mean_shift
from rpe.sphere import normalise
from rpe.structures import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concentration": 0.1}, r"concentration must be in \[0.25, 2500\], got 0.1"),
        ({"concentration": float("nan")}, "concentration must be in .*, got nan"),
        (
            {"concentration": torch.full((3,), 36.0)},
            r"concentration must be one number, or one for each of the 1 images, got the shape \[3\]",
        ),
        ({"iterations": -1}, "iterations must be an integer >= 0, got -1"),
        ({"iterations": 1.5}, "iterations must be an integer >= 0, got 1.5"),
        ({"step": 0.0}, r"step must be in \(0, 1\], got 0.0"),
        ({"mass": -torch.ones(1, 4)}, "mass must be 0 or in .*, got a negative"),
        (
            {"mass": torch.tensor([[1.0, 1.0, 1.0, float("inf")]])},
            "mass must be .*, got a negative, NaN or extreme value",
        ),
        ({"mass": torch.full((1, 4), 1e38)}, r"mass .* 0 or in \[1e-12, 1e\+12\]"),
        ({"mass": [[1.0] * 4]}, "mass must be a tensor of real numbers, got list"),
        ({"concentration": [36.0]}, r"concentration must be a number, .*, got \[36.0\]"),
        ({"concentration": None}, "concentration must be a number, .*, got None"),
        ({"points": [[[1.0, 0.0]]]}, "points must be a tensor of real numbers, got list"),
        (
            {"points": torch.zeros(2, 4, 0)},
            r"points must have one coordinate or more, got the shape \[2, 4, 0\]",
        ),
        ({"points": torch.eye(3)[None] + 0j}, "points must be a tensor of real numbers, got torch.complex64"),
        (
            {"positions": [[[0, 0]] * 4], "spatial_bandwidth": 1.0},
            "positions must be a tensor of real numbers, got list",
        ),
        (
            {"positions": torch.zeros(1, 4, 2), "spatial_bandwidth": float("inf")},
            "spatial_bandwidth must be in .*, got inf",
        ),
        (
            {"positions": torch.zeros(1, 4, 2), "spatial_bandwidth": 1e-30},
            r"spatial_bandwidth must be in \[1e-06, 1e\+06\], got 1e-30",
        ),
        ({"spatial_bandwidth": 1.0}, "must be given together, got spatial_bandwidth alone"),
        (
            {"positions": torch.zeros(1, 4, 2), "spatial_bandwidth": 0.0},
            "spatial_bandwidth must be in .*, got 0.0",
        ),
        ({"step": float("nan")}, r"step must be in \(0, 1\], got nan"),
        ({"mass": torch.ones(1, 5)}, r"mass must have the shape \[batch 1, pixel 4\], got \[1, 5\]"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, r"mask must have the shape .*, got \[4\]"),
        ({"mask": torch.ones(1, 4)}, "mask must be boolean, got torch.float32"),
        (
            {"positions": torch.zeros(1, 3, 2), "spatial_bandwidth": 1.0},
            r"positions must have the shape \[1, 4, 2\], .* got \[1, 3, 2\]",
        ),
        ({"points": torch.zeros(4, 3)}, r"points must have the shape \[batch, pixel, dim\], got \[4, 3\]"),
        ({"points": torch.zeros(1, 4, 3)}, "points must be of unit length, got 4 of 4"),
        ({"points": torch.full((1, 4, 3), float("nan"))}, "must be of unit length"),
    ],
)
def test_wrong_input_is_named(change: dict, message: str, plain: None) -> None:
    arguments = {"points": normalise(torch.randn(1, 4, 3)), "concentration": 36.0, "iterations": 1} | change
    with pytest.raises(UserError, match=message):
        mean_shift(
            arguments.pop("points"), arguments.pop("concentration"), arguments.pop("iterations"), **arguments
        )


def test_all_values_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: read.append(1) or whole(self))
    points, mask = normalise(torch.randn(2, 6, 3)), torch.ones(2, 6, dtype=torch.bool)
    mean_shift(
        points,
        torch.tensor([9.0, 25.0]),
        0,
        mass=torch.ones(2, 6),
        mask=mask,
        positions=torch.rand(2, 6, 2),
        spatial_bandwidth=1.0,
    )
    assert len(read) == 1
