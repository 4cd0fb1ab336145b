import sys

import pytest

from rpe.run import counter


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_the_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counter, "EVERY_SECONDS", -1.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    one = counter.Counter(3)
    one.show(1.5, "scan")
    one.stop()
    said = capsys.readouterr().out
    assert ("predicting" in said or "scan" in said) if terminal else said == "image 1.5/3 scan, 0:00 left\n"
