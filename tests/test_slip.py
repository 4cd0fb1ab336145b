import rpe.errors

import rpe.structures


def test_structures_know_the_same_slip() -> None:
    assert rpe.structures.UserError is rpe.errors.UserError
