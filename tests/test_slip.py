import rpe.slip
import rpe.structures


def test_structures_know_the_same_slip() -> None:
    assert rpe.structures.InputError is rpe.slip.InputError
