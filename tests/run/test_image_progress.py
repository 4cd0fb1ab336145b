import sys

import pytest

from rpe.run import image_progress


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_the_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image_progress, "LINE_SECONDS", -1.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    one = image_progress.ImageProgress(3)
    one.show(1.5, "scan")
    one.stop()
    shown = capsys.readouterr().out
    assert (
        ("predicting" in shown or "scan" in shown) if terminal else shown == "image 1.5/3 scan, 0:00 left\n"
    )
