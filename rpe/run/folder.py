"""Read and write a run folder's checkpoints and metrics."""

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
    """Return a run folder's best checkpoint, the last one where no epoch was validated, or the file itself.

    Args:
        name: a run folder, or a checkpoint.

    Raises:
        UserError: the checkpoint does not exist.
    """
    path = Path(name)
    best, last = (path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    file = path if not path.is_dir() else last if last.is_file() and not best.is_file() else best
    if not file.is_file():
        raise UserError(
            f"checkpoint must exist, got {file}. Name a run folder that has trained, or a .ckpt file."
        )
    return file


def read_checkpoint(file: Path) -> Node:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: the file is not a checkpoint.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content["state_dict"], dict):
            raise TypeError("no weights")
    except Exception as error:  # unpickling garbage raises anything
        raise UserError(
            f"checkpoint must be one that train.py wrote, got {file} ({type(error).__name__}). "
            "Choose another."
        ) from error
    return with_todays_weights(dict(content))


RANKER_PREFIX = "proposal.ranker."
"""Beginning of the names of the ranker's weights in a task."""

LEARNED_BANDWIDTH = "model.grouping.log_bandwidth"
"""Name of the learned bandwidth in a task."""


def restore_weights(task: torch.nn.Module, file: Path) -> Node:
    """Load a checkpoint's weights into the task, and return the checkpoint's content.

    The weights of a learned ranker are ignored where the task's ranker learns nothing. A task that learns its
    bandwidth keeps its own where the checkpoint has none.

    Raises:
        UserError: the file is not a checkpoint, or is one of another model.
    """
    content = read_checkpoint(file)
    state, wanted = content["state_dict"], task.state_dict()
    if not any(name.startswith(RANKER_PREFIX) for name in wanted):
        state = {name: values for name, values in state.items() if not name.startswith(RANKER_PREFIX)}
    if LEARNED_BANDWIDTH in wanted:
        state = {LEARNED_BANDWIDTH: wanted[LEARNED_BANDWIDTH]} | state
    for name in sorted(wanted.keys() | state.keys()):
        here, there = wanted.get(name), state.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if tensor is None else list(tensor.shape) for tensor in (there, here)]
            raise UserError(
                f"checkpoint must fit the model, got {file}: {name} is {shapes[0]}, not {shapes[1]}. "
                "Use its run's backbone, embedding and grouping settings."
            )
    task.load_state_dict(state)
    return content


def fingerprint_of(config: Node) -> str:
    """Return 16 hex digits of a config; two configs have the same where all settings are equal."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def provenance(config: Node, split: str, started: float) -> Node:
    """Return what is needed to repeat a result: commit, config hash, data, hardware, versions, seconds."""
    git = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = (
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
        "commit": commit.stdout.strip() if commit and commit.returncode == 0 else "unknown",
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


SHOWN = (
    "mIoU",
    "accuracy",
    "ODS",
    "OIS",
    "AR@10",
    "AR@100",
    "AP50",
    "AP",
    "components-AP",
    "PQ",
    "recall50-touching",
    "ARI-modes",
    "masks-per-image",
    "images",
)
"""Metrics that the table at the end of a run shows, the first `MAX_SHOWN` that the run has."""

MAX_SHOWN = 8


def write_metrics(
    folder: Path,
    metrics: dict[str, float],
    run: Node,
    title: str,
    notes: Sequence[str] = (),
    monitored: float | None = None,
) -> None:
    """Write `metrics.json` and print the metrics of `SHOWN` that are among them as a table.

    Args:
        folder: the run folder.
        metrics: by name.
        run: their provenance.
        title: the table's title.
        notes: lines that explain metrics of 0.
        monitored: a training's best validation score, which hyper-parameter searches maximise.
    """
    content = (
        {"metrics": metrics}
        | ({} if monitored is None else {"monitored": monitored})
        | {"run": run}
        | ({"notes": list(notes)} if notes else {})
    )
    write_whole(folder / "metrics.json", json.dumps(content, indent=2) + "\n")
    table = Table("metric", "value", title=title)
    shown = [name for name in SHOWN if name in metrics][:MAX_SHOWN]
    for name in shown:
        value = metrics[name]
        table.add_row(name, f"{value:g}" if float(value).is_integer() else f"{value:.4f}")
    console = Console()
    console.print(table)
    if len(shown) < len(metrics):
        console.print(f"{len(shown)} of {len(metrics)} metrics; all are in metrics.json", highlight=False)
    for line in notes:
        console.print(f"note: {line}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"written: {folder}", soft_wrap=True, highlight=False)
