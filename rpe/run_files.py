"""Read and write a run folder's text files. Does not import torch, so light commands start fast."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from rpe.errors import UserError
from rpe.older_runs import todays_run

Node = dict[str, Any]

PACKAGE = Path(__file__).resolve().parent

CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
"""The configs: inside the installed package (`rpe.conf`), beside it in a clone."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe YAML loader, in C where PyYAML was built with it: ten times as fast."""


def run_folder(folder: str) -> Path:
    """Return the folder as a path if it holds a run.

    Raises:
        UserError: the folder does not exist, or holds no config.yaml.
    """
    path = Path(folder)
    if not (path / "config.yaml").is_file():
        reason = "which holds no config.yaml" if path.is_dir() else "which does not exist"
        raise UserError(
            f"run folder must be one that train.py wrote, got {folder}, {reason}. "
            "Name one such as outputs/digits/<time>."
        )
    return path


def read_run(folder: str) -> Node:
    """Return a run's config as plain containers, with the changes that were made when it was resumed.

    Raises:
        UserError: the folder holds no run, or its files are not settings.
    """
    config = todays_run(read_yaml(run_folder(folder) / "config.yaml"))
    for key, value in changed_at_resume(Path(folder)).items():
        *groups, name = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return config


def changed_at_resume(folder: Path) -> Node:
    """Return the changes of earlier resumptions, by dotted key.

    config.yaml is written once, so they lie in resumed.yaml beside it.
    """
    file = folder / "resumed.yaml"
    return read_yaml(file) if file.is_file() else {}


def remember_changes(folder: Path, changes: Node) -> None:
    """Add the changes of this resumption, for the next one and for evaluations."""
    if changes:
        write_whole(
            folder / "resumed.yaml", yaml.safe_dump(changed_at_resume(folder) | changes, sort_keys=False)
        )


def read_yaml(file: Path) -> Node:
    """Read a file of settings.

    Raises:
        UserError: the file is not YAML, or not a mapping.
    """
    try:
        settings = yaml.load(file.read_text(), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} must be as train.py wrote it, got invalid YAML ({' '.join(str(error).split())}). "
            "Restore it."
        ) from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} must be as train.py wrote it, got no settings. Restore it.")
    return settings


def write_whole(file: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file, also part by part, so that it is never seen half written."""
    with open_whole(file, "wb") as stream:
        for part in [content] if isinstance(content, str | bytes) else content:
            stream.write(part.encode() if isinstance(part, str) else part)


@contextmanager
def open_whole(file: Path, mode: str) -> Iterator[IO[Any]]:
    """Open a file for writing. It replaces the old one only once it is complete."""
    partial = file.with_name(file.name + ".partial")
    try:
        with partial.open(mode, newline=None if "b" in mode else "") as stream:
            yield stream
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def rows_to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as the text of a CSV file."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def pictures_of(folder: Path) -> Path:
    """Return the folder of a run's or an evaluation's pictures, made where it is missing."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    return pictures


def flatten_settings(node: Any, path: str = "") -> Node:
    """Return the leaves of nested settings by dotted key."""
    if not isinstance(node, dict) or (path and not node):
        return {path: node}
    return {
        key: leaf
        for name, child in node.items()
        for key, leaf in flatten_settings(child, f"{path}.{name}" if path else str(name)).items()
    }
