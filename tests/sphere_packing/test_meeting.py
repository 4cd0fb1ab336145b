"""What a margin can serve, and how it is known."""

import pytest

from rpe.sphere_packing import can_meet, smallest_margin, smallest_margin_soon


def test_what_a_margin_can_serve() -> None:
    assert (
        can_meet(6, 3, 0.5)
        and not can_meet(7, 3, 0.5)
        and can_meet(7, 3, 0.606)
        and not can_meet(7, 3, 0.604)
    )
    assert can_meet(2, 1, 0.0) and can_meet(1, 2, 0.0) and not can_meet(1000, 3, 0.9)


def test_how_it_is_known() -> None:
    assert smallest_margin(129, 64).known == "bound" == smallest_margin_soon(25, 3).known and smallest_margin(
        6, 3
    ) == (0.5, "exact")
    found = smallest_margin_soon(7, 3)
    assert found.known == "found" and found.margin == pytest.approx(0.60507, abs=1e-5)
