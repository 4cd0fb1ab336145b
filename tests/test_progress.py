import sys

import pytest

from rpe import progress


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_the_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with progress.ImageProgress(3) as images:
        images.show(1.5, "scan")
        images.advance()
    shown = capsys.readouterr().out
    lines = "image 1.5/3 scan, 0:00 left\nimage 2.5/3 images, 0:00 left\n"
    assert ("images" in shown or "scan" in shown) if terminal else shown == lines


def test_nothing_is_shown_without_a_total(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    with progress.ImageProgress(None) as images:
        images.advance()
    assert capsys.readouterr().out == ""


def test_clock() -> None:
    assert progress.clock(61.9) == "1:01" and progress.clock(3600) == "60:00"
