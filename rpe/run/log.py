"""Copy what a training prints into the log of its run folder."""

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

LOG = "train.log"
"""In a run folder: what the training printed, with the time of day, and the stack trace of a failure."""

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and cursor movements of a terminal."""

BAR = re.compile(r"^[^┏┡]*━")
"""A line of a progress bar; a table begins with a corner."""


class Copy:
    """A stream whose whole lines are copied to a file with the time of day, without colours and progress bars."""

    def __init__(self, stream: Any, file: Path) -> None:
        self.stream, self.file, self.rest = stream, file, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        plain = [CONTROL.sub("", line).rsplit("\r", 1)[-1].rstrip() for line in lines]
        kept = [line for line in plain if line and not BAR.match(line)]
        if kept:
            with self.file.open("a") as log:
                log.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in kept)
        if self.stream is not None:
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self.stream is not None:
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def logged(folder: Path, keep: bool) -> Iterator[None]:
    """Copy output, log records and a failure's stack trace to the folder's log.

    Args:
        keep: also a folder in which no run has begun.
    """
    if not is_first_rank():
        yield
        return
    file = folder / LOG
    out: Any = Copy(sys.stdout, file)
    errors: Any = Copy(sys.stderr, file)
    handler = logging.StreamHandler(Copy(None, file))
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            yield
    except BaseException as error:
        if (folder / "config.yaml").exists():
            refused = isinstance(error, UserError)
            Copy(None, file).write(f"error: {error}\n" if refused else traceback.format_exc() + "\n")
        elif not keep:
            remove_unused(folder)
        raise
    finally:
        logging.getLogger().removeHandler(handler)


def remove_unused(folder: Path) -> None:
    """Remove a run folder in which no run has begun, and its empty parents inside the current folder."""
    (folder / LOG).unlink(missing_ok=True)
    while not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
        if Path.cwd() not in folder.parents:
            return
