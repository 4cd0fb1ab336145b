import pytest

import rpe.errors
import rpe.structures
from rpe.errors import did_you_mean


def test_structures_know_the_same_slip() -> None:
    assert rpe.structures.UserError is rpe.errors.UserError


def test_a_note_is_said_once_by_the_first_of_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rpe.errors.note.cache_clear()
    for line in ("a", "b", "a"):
        rpe.errors.note(line)
    assert capsys.readouterr().err == "note: a\nnote: b\n"
    monkeypatch.setenv("RANK", "1")
    rpe.errors.note("c")
    assert capsys.readouterr().err == ""


def test_close_words_are_suggested_and_far_ones_are_not() -> None:
    assert did_you_mean("marginn", ["margin", "pixels"]) == ". Did you mean margin?"
    assert did_you_mean("zzz", ["margin", "pixels"]) == ""
