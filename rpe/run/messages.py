"""Turn exceptions into the one line that a user reads."""

import errno
import sys
from difflib import get_close_matches
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rpe.errors import UserError, did_you_mean
from rpe.run.overrides import RUN_GROUPS
from rpe.run.sweep_record import count_finished_jobs, started_sweeps

PATH_ERRORS = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.EROFS,
    errno.ENOSPC,
    errno.ENAMETOOLONG,
)
"""Errors of a path or a disk that a user can fix. A missing file is not among them: it may be a bug of this
package."""

WORKER_ERRORS = (
    "TerminatedWorkerError",
    "BrokenProcessPool",
    "WorkerCrashedError",
    "UncompletedJobError",
)
"""Exceptions by which the launchers report a worker process that ended, by name: launchers are optional."""

HYDRA_DETAILS = (
    "full_key",
    "object_type",
    "reference_type",
    "See https://hydra.cc",
    "Config search path",
    "provider=",
)
"""Beginnings of the lines of Hydra's messages that do not help a user."""


def explain_error(error: BaseException) -> str | None:
    """Return one line on a user's mistake or a refusal of the file system; None for a bug."""
    if isinstance(error, OverrideParseException):
        return (
            f"{summarise_error(error)}; quote each name that holds brackets, commas or other characters of "
            "Hydra's grammar: \"images=['photo (1).png']\""
        )
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return summarise_error(error)
    if isinstance(error, OSError) and error.errno in PATH_ERRORS:
        path = error.filename or "the output folder"
        return (
            f"{path} must be writable, got {error.strerror}. "
            "Name another folder, such as hydra.run.dir=outputs/mine"
        )
    return None


def summarise_error(error: BaseException) -> str:
    """Return an error's message in one line, without what a worker or an interpolation adds to it."""
    text = str(error)
    marker = f"{UserError.__module__}.{UserError.__qualname__}: "
    if marker in text:
        return text.split(marker)[-1].strip().splitlines()[0]
    if isinstance(error.__cause__, UserError | OmegaConfBaseException) and not isinstance(error, UserError):
        reason = summarise_error(error.__cause__)
        if not text.startswith("Could not override"):
            return reason
        remedy = ""
        if "is not in struct" in reason:
            remedy = f"{suggest_key(error.__cause__)}; `--cfg job` prints all keys"
            if any(argument.startswith("run=") for argument in sys.argv):
                remedy += f"; of a run, {', '.join(RUN_GROUPS)} alone can be changed"
        return f"{text.splitlines()[0]} {reason}{remedy}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group and error.options:
            known = ", ".join(sorted(error.options))
            return f"{group} must be one of {known}, got {option}{did_you_mean(option, error.options)}"
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith(HYDRA_DETAILS))


def suggest_key(error: BaseException) -> str:
    """Return a suggestion for an unknown key: one of the same group, else the same key of another group."""
    node: Any = getattr(error, "parent_node", None)
    wrong = str(getattr(error, "key", ""))
    if not OmegaConf.is_dict(node):
        return ""
    if siblings := did_you_mean(wrong, [str(key) for key in node]):
        return siblings
    keys = list_keys(node._get_root())
    inside = [key for key in keys if key.startswith(f"{node._get_full_key(None)}.")]
    found = [key for key in inside if get_close_matches(wrong, [key.rpartition(".")[2]])]
    found = found or [key for key in keys if key.endswith(f".{wrong}")]
    return f". Did you mean {' or '.join(found)}?" if found else ""


def list_keys(node: Any, prefix: str = "") -> list[str]:
    """Return all dotted keys below `node`, without those of Hydra itself."""
    found: list[str] = []
    for name in node:
        child = node._get_node(name)
        found.append(f"{prefix}{name}")
        if OmegaConf.is_dict(child) and not child._is_none() and not child._is_missing() and name != "hydra":
            found += list_keys(child, f"{prefix}{name}.")
    return found


def describe_failed_jobs(failed: dict[str, str]) -> str:
    """Return the line that ends a sweep with failed jobs."""
    total = len(started_sweeps[-1].jobs)
    done = count_finished_jobs(started_sweeps[-1])
    others = "all others are done" if done + len(failed) >= total else f"{done} of {total} are done"
    return f"{len(failed)} of the sweep's jobs failed, {others}"


def describe_killed_worker(error: BaseException) -> str | None:
    """Return the line on a launcher's worker process that was killed; None for any other error."""
    if not started_sweeps or type(error).__name__ not in WORKER_ERRORS:
        return None
    done, total = count_finished_jobs(started_sweeps[-1]), len(started_sweeps[-1].jobs)
    return (
        "a process of the sweep was killed, or ran out of memory; "
        f"{done} of {total} jobs are done: the same command resumes"
    )
