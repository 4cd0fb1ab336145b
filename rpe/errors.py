"""User-facing errors. Does not import torch, so light commands start fast."""

import difflib
import functools
import os
import sys
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake, in one line with the key and the fix; commands print it without a stack trace."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `. Did you mean <the closest known words>?`, or nothing if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f". Did you mean {' or '.join(close)}?" if close else ""


@functools.cache
def note(line: str) -> None:
    """Print a line about the input to stderr, once per program and only on the first rank."""
    if (
        next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
        == "0"
    ):
        print(f"note: {line}", file=sys.stderr, flush=True)
