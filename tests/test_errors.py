import rpe.errors
import rpe.structures
from rpe.errors import did_you_mean


def test_structures_know_the_same_slip() -> None:
    assert rpe.structures.UserError is rpe.errors.UserError


def test_close_words_are_suggested_and_far_ones_are_not() -> None:
    assert did_you_mean("marginn", ["margin", "pixels"]) == ". Did you mean margin?"
    assert did_you_mean("zzz", ["margin", "pixels"]) == ""
