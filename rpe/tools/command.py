"""Run the small commands `python -m rpe.tools.<name> key=value ...`. Does not import torch or Hydra."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import yaml

from rpe.errors import UserError, did_you_mean


def read_arguments(arguments: list[str], defaults: dict[str, Any], usage: str) -> dict[str, Any]:
    """Return `key=value` arguments over their defaults; values are read as YAML, as Hydra does.

    Args:
        arguments: without the program's name; `--help` and `-h` print the usage and end the program.
        defaults: all keys with their default values.
        usage: the text of `--help`.

    Raises:
        UserError: an argument has no `=`, its key is unknown, or its value is not YAML.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        raise SystemExit(0)
    values = dict(defaults)
    for argument in arguments:
        key, given, text = argument.partition("=")
        if not given:
            raise UserError(
                f"arguments must be key=value, got {argument!r}. The keys are {', '.join(defaults)}."
            )
        if key not in defaults:
            raise UserError(
                f"keys must be one of {', '.join(defaults)}, got {key}{did_you_mean(key, defaults)}"
            )
        try:
            # YAML 1.1 takes 2:12 for minutes and seconds
            values[key] = text if re.fullmatch(r"\d+:\d+", text) else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(
                f"{key} must be YAML, got {text} ({' '.join(str(error).split())}). "
                f"Quote it, as in {key}='\"..\"'"
            ) from error
    return values


def run_tool(main: Callable[[list[str]], int | None]) -> None:
    """Run a command on the program's arguments, and exit with the status that it returns.

    A user's error, or one of the file system, becomes one line on stderr and exit status 1.
    """
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename or 'the file system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(status or 0)
