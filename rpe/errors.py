"""Errors, notes and warnings for users. Does not import torch, so light commands start fast."""

import difflib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A user's mistake, in one line with the key and the fix; commands print it without a stack trace."""

    def __init__(self, text: str) -> None:
        super().__init__(spell_commands(text))


def spell_commands(text: str) -> str:
    """Return a text with its commands as the user starts them: `rpe train` instead of `python train.py`.

    The program was started as `rpe`, or no `train.py` lies beside the package, as it is installed.
    """
    started = {Path(word).stem for word in sys.orig_argv[1:4] if "=" not in word}
    if "rpe" not in started and (Path(__file__).parent.parent / "train.py").is_file():
        return text
    text = re.sub(r"python -m rpe\.tools\.", "rpe ", text)
    return re.sub(r"(?<![/\w.-])(?:python )?(train|evaluate|predict)\.py\b", r"rpe \1", text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `. Did you mean <the closest known words>?`, or nothing if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f". Did you mean {' or '.join(close)}?" if close else ""


def is_first_rank() -> bool:
    """Return whether this process is a training's only one, or the first of several."""
    return (
        next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), "0")
        == "0"
    )


PRINTED: set[object] = set()
"""Subjects of which `note` and `warn` have printed a line, in this process and job."""


def note(line: str) -> None:
    """Print a line about the input to stderr, once in each process and job, and only on the first rank."""
    if is_first_rank():
        print_once("note", line, line)


def warn(line: str, subject: object = None) -> None:
    """Print a warning about the input to stderr, once for each subject in each process and job.

    Every rank prints, as each reads other images. The subject, such as a folder, is by default the line.
    """
    print_once("warning", line, line if subject is None else subject)


def print_once(kind: str, line: str, subject: object) -> None:
    """Print a line to stderr unless one of the same kind and subject was printed."""
    if (kind, subject) not in PRINTED:
        PRINTED.add((kind, subject))
        print(f"{kind}: {line}", file=sys.stderr, flush=True)
