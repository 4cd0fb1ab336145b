"""A user's slip; apart from `structures`, which has it too, so that commands that compute nothing start without torch."""

import functools
import os
import sys


class UserError(ValueError):
    """A user's slip, told in one line that names the thing and the remedy; the doors print it without a stack trace."""


@functools.cache
def note(line: str) -> None:
    """Print a line about the input on stderr, once in a program, by the first of several ranks alone."""
    if next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0") == "0":
        print(f"note: {line}", file=sys.stderr, flush=True)
