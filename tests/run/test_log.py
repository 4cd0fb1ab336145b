"""What a command prints stands in its folder."""

import io
import logging
import sys
from pathlib import Path

import pytest

from rpe.run.log import LogStream, log_output


def test_lines_are_copied_without_colours_and_bars(tmp_path: Path) -> None:
    stream = io.StringIO()
    copy = LogStream(stream, tmp_path / "train.log")
    for text in ("a\x1b[32mb", "\x1b[0m c\n", "epoch 1/2 \x1b[35m━━━\x1b[0m 0:01\r\n", "┏━━┓\nlast"):
        copy.write(text)
    assert [line[20:] for line in (tmp_path / "train.log").read_text().splitlines()] == ["ab c", "┏━━┓"]
    assert stream.getvalue().endswith("┏━━┓\nlast") and not copy.isatty()


def test_a_failure_leaves_its_stack_trace_and_a_refused_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for began in (True, False):
        folder = tmp_path / "outputs" / str(began)
        folder.mkdir(parents=True)
        with pytest.raises(ZeroDivisionError), log_output(folder / "train.log", keep=False):
            print("printed")
            print("warned", file=sys.stderr)
            logging.getLogger("any").warning("recorded")
            if began:
                (folder / "config.yaml").write_text("")
            _ = 1 / 0
        if began:
            text = (folder / "train.log").read_text()
            assert all(
                word in text for word in ("printed", "warned", "recorded", "Traceback", "ZeroDivisionError")
            )
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["True"]


def test_a_printed_error_has_no_stack_trace(tmp_path: Path) -> None:
    log = tmp_path / "predict.log"
    with pytest.raises(SystemExit), log_output(log, keep=True):
        print("error: 1 of 2 images failed")
        raise SystemExit(1)
    assert [line[20:] for line in log.read_text().splitlines()] == ["error: 1 of 2 images failed"]
