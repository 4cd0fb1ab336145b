import pytest

from rpe.structures import UserError
from rpe.task.schedule import constant, one_cycle, poly


def test_poly_is_the_authors() -> None:
    assert (
        poly(0.0, 0.9) == 1
        and poly(0.5, 0.9) == pytest.approx(0.5**0.9)
        and poly(1.0, 0.9) == 0 == poly(1.2, 0.9)
    )


def test_one_cycle_rises_and_falls() -> None:
    options = {"warmup": 0.1, "start": 0.05, "end": 0.001}
    assert one_cycle(0.0, **options) == pytest.approx(0.05)
    assert one_cycle(0.05, **options) == pytest.approx(0.525)
    assert one_cycle(0.1, **options) == pytest.approx(1)
    assert one_cycle(0.55, **options) == pytest.approx(0.5005)
    assert one_cycle(1.0, **options) == pytest.approx(0.001) == one_cycle(2.0, **options)


@pytest.mark.parametrize(
    ("option", "value"), [("warmup", 1.0), ("warmup", -0.1), ("start", 1.5), ("end", -0.1)]
)
def test_shares_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"schedule.{option} must be in \[0, 1., got {value}"):
        one_cycle(0.5, **({"warmup": 0.1, "start": 0.05, "end": 0.001} | {option: value}))
    with pytest.raises(UserError, match="schedule.power must be >= 0, got -1"):
        poly(0.5, -1)


def test_constant() -> None:
    assert constant(0.3) == 1
