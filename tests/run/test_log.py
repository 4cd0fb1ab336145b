"""What a training prints stands in its folder."""

import io
import logging
import sys
from pathlib import Path

import pytest

from rpe.run.log import LOG_FILE, LogStream, log_output


def test_lines_are_copied_without_colours_and_bars(tmp_path: Path) -> None:
    stream = io.StringIO()
    copy = LogStream(stream, tmp_path / LOG_FILE)
    for text in ("a\x1b[32mb", "\x1b[0m c\n", "epoch 1/2 \x1b[35m━━━\x1b[0m 0:01\r\n", "┏━━┓\nlast"):
        copy.write(text)
    assert [line[20:] for line in (tmp_path / LOG_FILE).read_text().splitlines()] == ["ab c", "┏━━┓"]
    assert stream.getvalue().endswith("┏━━┓\nlast") and not copy.isatty()


def test_a_failure_leaves_its_stack_trace_and_a_refused_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for began in (True, False):
        folder = tmp_path / "outputs" / str(began)
        folder.mkdir(parents=True)
        with pytest.raises(ZeroDivisionError), log_output(folder, keep=False):
            print("printed")
            print("warned", file=sys.stderr)
            logging.getLogger("any").warning("recorded")
            if began:
                (folder / "config.yaml").write_text("")
            _ = 1 / 0
        if began:
            text = (folder / LOG_FILE).read_text()
            assert all(
                word in text for word in ("printed", "warned", "recorded", "Traceback", "ZeroDivisionError")
            )
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["True"]
