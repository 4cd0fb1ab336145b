"""Weights and figures in a run's folder, and where they came from."""

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from rich.console import Console
from rich.table import Table

from rpe.older_runs import with_todays_weights
from rpe.run_files import Node, write_whole
from rpe.structures import UserError

SOURCE = Path(__file__).resolve().parent.parent.parent


def checkpoint_of(name: str) -> Path:
    """The best checkpoint of a run folder, the last where no epoch was validated, or the checkpoint itself.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    best, last = (path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    file = path if not path.is_dir() else last if last.is_file() and not best.is_file() else best
    if not file.is_file():
        raise UserError(
            f"checkpoint {file} does not exist: name a run folder that has trained, or a .ckpt file"
        )
    return file


def read_checkpoint(file: Path) -> Node:
    """A checkpoint's content on the CPU.

    Raises:
        UserError: it is not a checkpoint.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content["state_dict"], dict):
            raise TypeError("no weights")
    except Exception as error:  # garbage makes unpickling fail in every way there is
        raise UserError(
            f"{file} is not a checkpoint of this program ({type(error).__name__}): name a .ckpt that train.py wrote"
        ) from error
    return with_todays_weights(dict(content))


RANKER = "proposal.ranker."
"""Where a task keeps its ranker's weights."""


def load_weights(task: torch.nn.Module, file: Path) -> Node:
    """Load a checkpoint's weights; returns its content. A task whose ranker learns nothing leaves those of a learned one aside.

    Raises:
        UserError: it is not a checkpoint, or one of another model.
    """
    content = read_checkpoint(file)
    state, wanted = content["state_dict"], task.state_dict()
    if not any(name.startswith(RANKER) for name in wanted):
        state = {name: values for name, values in state.items() if not name.startswith(RANKER)}
    for name in sorted(wanted.keys() | state.keys()):
        here, there = wanted.get(name), state.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if tensor is None else list(tensor.shape) for tensor in (there, here)]
            raise UserError(
                f"checkpoint {file} is of another model: {name} is {shapes[0]} there and {shapes[1]} here; "
                "use its run's backbone, embedding and grouping settings"
            )
    task.load_state_dict(state)
    return content


def fingerprint_of(config: Node) -> str:
    """16 hex digits of a config: equal where all settings are."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def provenance(config: Node, split: str, started: float) -> Node:
    """What a result needs to be repeated: commit, config hash, data, hardware, versions, seconds."""
    git = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = (
        subprocess.run(git, capture_output=True, text=True, check=False)
        if (SOURCE / ".git").exists()
        else None
    )
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine()
    )
    return {
        "commit": answer.stdout.strip() if answer and answer.returncode == 0 else "unknown",
        "config": fingerprint_of(config),
        "data": config["data"],
        "split": split,
        "hardware": {"device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
        "seconds": round(time.monotonic() - started, 1),
    }


def write_figures(
    folder: Path,
    figures: dict[str, float],
    run: Node,
    title: str,
    notes: Sequence[str] = (),
    monitored: float | None = None,
) -> None:
    """Write `metrics.json` and print its figures as a table.

    Args:
        notes: lines that explain figures of 0.
        monitored: of a training, the best validation score, which hyper-parameter searches maximize.
    """
    content = (
        {"figures": figures}
        | ({} if monitored is None else {"monitored": monitored})
        | {"run": run}
        | ({"notes": list(notes)} if notes else {})
    )
    write_whole(folder / "metrics.json", json.dumps(content, indent=2) + "\n")
    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, f"{value:g}" if float(value).is_integer() else f"{value:.4f}")
    console = Console()
    console.print(table)
    for line in notes:
        console.print(f"note: {line}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"all of it: {folder}", soft_wrap=True, highlight=False)
