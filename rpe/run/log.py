"""Copy a training's output into the log of its run folder."""

import contextlib
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rpe.run.train import is_first_rank
from rpe.structures import UserError

LOG_FILE = "train.log"
"""In a run folder: the output of the training with the time of day, and the stack trace of a failure."""

CONTROL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A terminal's colours and cursor movements."""

BAR_LINE = re.compile(r"^[^┏┡]*━")
"""A line of a progress bar; the lines of a table begin with a corner."""


class LogStream:
    """A stream that copies whole lines to a file, with the time and without colours and progress bars."""

    def __init__(self, stream: Any, file: Path) -> None:
        self.stream, self.file, self.rest = stream, file, ""

    def write(self, text: str) -> int:
        """Write to both, to the file without control codes and progress bars."""
        *lines, self.rest = (self.rest + text).split("\n")
        plain = [CONTROL_CODE.sub("", line).rsplit("\r", 1)[-1].rstrip() for line in lines]
        kept = [line for line in plain if line and not BAR_LINE.match(line)]
        if kept:
            with self.file.open("a") as log:
                log.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in kept)
        if self.stream is not None:
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; the file is closed after each write."""
        if self.stream is not None:
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def log_output(folder: Path, keep: bool) -> Iterator[None]:
    """Copy output, log records and a failure's stack trace to the folder's log.

    Args:
        folder: the run folder.
        keep: keep the folder even if no run has begun in it.
    """
    if not is_first_rank():
        yield
        return
    file = folder / LOG_FILE
    out: Any = LogStream(sys.stdout, file)
    errors: Any = LogStream(sys.stderr, file)
    handler = logging.StreamHandler(LogStream(None, file))
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            yield
    except BaseException as error:
        if (folder / "config.yaml").exists():
            refused = isinstance(error, UserError)
            LogStream(None, file).write(f"error: {error}\n" if refused else traceback.format_exc() + "\n")
        elif not keep:
            remove_unused(folder)
        raise
    finally:
        logging.getLogger().removeHandler(handler)


def remove_unused(folder: Path) -> None:
    """Remove a run folder in which no run has begun, and its empty parents inside the current folder."""
    (folder / LOG_FILE).unlink(missing_ok=True)
    while not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
        if Path.cwd() not in folder.parents:
            return
