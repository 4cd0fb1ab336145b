import pytest

import rpe.slip
import rpe.structures


def test_structures_know_the_same_slip() -> None:
    assert rpe.structures.InputError is rpe.slip.InputError


def test_a_note_is_said_once_by_the_first_of_several(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rpe.slip.note.cache_clear()
    for line in ("a", "b", "a"):
        rpe.slip.note(line)
    assert capsys.readouterr().err == "note: a\nnote: b\n"
    monkeypatch.setenv("RANK", "1")
    rpe.slip.note("c")
    assert capsys.readouterr().err == ""
