"""The commands beside the doors, `python -m rpe.<name> key=value ...`: arguments in, one line out for a slip."""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import yaml

from rpe.errors import UserError, did_you_mean


def read_arguments(arguments: list[str], defaults: dict[str, Any], usage: str) -> dict[str, Any]:
    """`key=value` arguments over their defaults; values are read as YAML, as the doors do.

    Args:
        arguments: without the program's name; `--help` or `-h` prints the usage and ends the program.
        defaults: all keys, and their values where they are not given.
        usage: what `--help` prints.

    Raises:
        UserError: an argument without `=`, a key that there is not, or a value that is no YAML.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        raise SystemExit(0)
    values = dict(defaults)
    for argument in arguments:
        key, given, text = argument.partition("=")
        if not given:
            raise UserError(f"{argument!r} is no key=value: the keys are {', '.join(defaults)}")
        if key not in defaults:
            raise UserError(
                f"{key} is no key of this command: it has {', '.join(defaults)}{did_you_mean(key, defaults)}"
            )
        try:
            # YAML 1.1 takes 2:12 for minutes and seconds
            values[key] = text if re.fullmatch(r"\d+:\d+", text) else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(
                f"{argument} cannot be read ({' '.join(str(error).split())}): quote it, as in {key}='\"..\"'"
            ) from error
    return values


def command(main: Callable[[list[str]], int | None]) -> None:
    """Run a command on the program's arguments; a slip, or what the file system refuses, becomes one line on stderr and exit status 1; else what `main` returns
    is the status."""
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename or 'the file system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(status or 0)
