"""Copy a command's output into the log of its run folder."""

import contextlib
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rpe.errors import is_first_rank
from rpe.structures import UserError

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
def log_output(file: Path, keep: bool) -> Iterator[None]:
    """Copy output with the time of day, log records and a bug's stack trace to a log in the run folder.

    Args:
        file: the log; its folder exists.
        keep: keep the folder after a failure even if it holds nothing else.
    """
    if not is_first_rank():
        yield
        return
    out: Any = LogStream(sys.stdout, file)
    errors: Any = LogStream(sys.stderr, file)
    handler = logging.StreamHandler(LogStream(None, file))
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            yield
    except BaseException as error:
        if not keep and not any(path != file for path in file.parent.iterdir()):
            remove_unused(file)
        elif not isinstance(error, UserError | SystemExit):  # of which a line was printed
            LogStream(None, file).write(traceback.format_exc() + "\n")
        raise
    finally:
        logging.getLogger().removeHandler(handler)


def remove_unused(log: Path) -> None:
    """Remove the log of a run that has not begun, and empty folders above it inside the current folder."""
    log.unlink(missing_ok=True)
    folder = log.parent
    while not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
        if Path.cwd() not in folder.parents:
            return
