import pytest

import rpe.errors
import rpe.structures
from rpe.errors import UserError, did_you_mean, spell_commands


def test_structures_know_the_same_slip() -> None:
    assert rpe.structures.UserError is rpe.errors.UserError


def test_a_note_is_said_once_by_the_first_of_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("a", "b", "a"):
        rpe.errors.note(line)
    assert capsys.readouterr().err == "note: a\nnote: b\n"
    monkeypatch.setenv("RANK", "1")
    rpe.errors.note("c")
    assert capsys.readouterr().err == ""


def test_a_warning_is_printed_once_a_subject_on_any_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    for line, subject in (("a", None), ("a", None), ("b", "folder"), ("c", "folder")):
        rpe.errors.warn(line, subject)
    assert capsys.readouterr().err == "warning: a\nwarning: b\n"


def test_close_words_are_suggested_and_far_ones_are_not() -> None:
    assert did_you_mean("marginn", ["margin", "pixels"]) == ". Did you mean margin?"
    assert did_you_mean("zzz", ["margin", "pixels"]) == ""


@pytest.mark.parametrize(
    "started", [["/usr/bin/rpe", "train"], ["-m", "rpe", "train"], ["-X", "dev", "/a/rpe"]]
)
def test_commands_are_spelled_as_the_program_was_started(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Run python -m rpe.tools.download name=bsds, then `python train.py -m seed=1,2`, not a/train.py."
    monkeypatch.setattr("sys.orig_argv", ["python", "train.py", "data.root=/data/rpe"])
    assert spell_commands(text) == text
    monkeypatch.setattr("sys.orig_argv", ["python", *started])
    assert spell_commands(text) == "Run rpe download name=bsds, then `rpe train -m seed=1,2`, not a/train.py."
    assert str(UserError("run must be one that train.py wrote")) == "run must be one that rpe train wrote"
