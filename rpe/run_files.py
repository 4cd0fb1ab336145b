"""What a run says of itself in its folder, as text: read and written without torch, so that whoever compares many runs starts at once."""

import os
from pathlib import Path
from typing import Any

import yaml

from rpe.errors import UserError
from rpe.older_runs import todays_run

Node = dict[str, Any]

PACKAGE = Path(__file__).resolve().parent

CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
"""The configs: inside the installed package (`rpe.conf`), beside it in a clone."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where PyYAML was built with it: ten times as fast."""


def run_folder(folder: str) -> Path:
    """The folder, if a run lies there.

    Raises:
        UserError: no folder, or no config.yaml in it.
    """
    path = Path(folder)
    if not (path / "config.yaml").is_file():
        what = "holds no config.yaml" if path.is_dir() else "does not exist"
        raise UserError(
            f"run folder {folder} {what}: name a folder that train.py wrote, such as outputs/digits/<time>"
        )
    return path


def read_run(folder: str) -> Node:
    """A run's config as plain containers: what it was started with, and what was changed when it was resumed.

    Raises:
        UserError: no run, or its files are not a config.
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
    """What resuming has changed in a run so far, by dotted key: config.yaml is written once, so this lies in resumed.yaml beside it."""
    file = folder / "resumed.yaml"
    return read_yaml(file) if file.is_file() else {}


def remember_changes(folder: Path, changes: Node) -> None:
    """Add what this resuming changes, for the next one and for evaluations."""
    if changes:
        write_whole(
            folder / "resumed.yaml", yaml.safe_dump(changed_at_resume(folder) | changes, sort_keys=False)
        )


def read_yaml(file: Path) -> Node:
    """A file of settings.

    Raises:
        UserError: it is none.
    """
    try:
        settings = yaml.load(file.read_text(), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} is not YAML ({' '.join(str(error).split())}): it must be as train.py wrote it"
        ) from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings: it must be as train.py wrote it")
    return settings


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, file)


def pictures_of(folder: Path) -> Path:
    """Where a run or an evaluation keeps its pictures; made where it is missing."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    return pictures
