"""Train a run, or a job of a sweep.

A finished job is skipped, one with a checkpoint resumes, any other begins.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rpe.errors import is_first_rank
from rpe.run.cli import report_errors
from rpe.run.experiments import describe_missing_data
from rpe.run.lock import hold_folder
from rpe.run.sweep_record import EXECUTION_GROUPS, IN_SWEEP, override_key
from rpe.run.train import (
    count_parallel_jobs,
    last_checkpoint,
    make_root_absolute,
    to_plain,
    train_run,
)
from rpe.run_files import PACKAGE, flatten_settings, read_run
from rpe.structures import UserError

LEFTOVERS = ("checkpoints", "metrics.csv", "pictures", "resumed.yaml")
"""Files of a job that never reached a checkpoint. It begins again, in the same run of wandb."""

UNCHECKED_GROUPS = ("logger", "callbacks", "checkpoint_minutes")
"""Groups and keys that change no metric, and so may differ when a job is resumed."""

TAIL_LINES = 400
"""Last lines of a process's stderr that are kept as its reason."""

STOP_SECONDS = 30
"""Seconds that a stopped command has to clean up."""

OTHER_RANK_LINE = re.compile(r"\[rank[1-9]")
"""Beginning of torch's lines of all ranks but the first; when one fails, the others report only that it is
gone."""


@report_errors
def train(config: DictConfig) -> float | None:
    """Train a run or a job of a sweep into its folder.

    Returns:
        The best validation score, for Hydra's sweepers to maximise; None where no epoch was validated.

    Raises:
        UserError: a user's mistake; before training starts wherever that is possible.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if config.resume is None and config.get("data") is None:
        raise UserError(describe_missing_data([str(text) for text in HydraConfig.get().overrides.task]))
    if HydraConfig.get().mode == RunMode.MULTIRUN or IN_SWEEP in os.environ:
        return train_job(config, folder)
    if not is_first_rank():
        return train_run(config, folder, resuming=False)  # the first rank holds the folder
    with hold_folder(folder, waiting=None):
        return train_run(config, folder, resuming=False)


def train_job(config: DictConfig, folder: Path) -> float | None:
    """Train a job of a sweep. Failed and killed jobs both resume from their last checkpoint."""
    set_threads()
    make_root_absolute(config)
    if not is_first_rank():  # the first holds the folder and clears it
        if is_finished(folder):
            return read_score(folder)
        return train_run(config, folder, last_checkpoint(folder).is_file())
    if count_ranks(config) > 1 and not has_external_ranks() and IN_SWEEP not in os.environ:
        return train_in_subprocess(config, folder)
    with hold_folder(folder, f"{folder.name} is being trained by another process"):
        resuming = last_checkpoint(folder).is_file()
        if is_finished(folder) or resuming:
            check_same_settings(to_plain(config), folder)
        if is_finished(folder):
            print(f"{folder.name} is done already", flush=True)
            return read_score(folder)
        if not resuming:
            clear_folder(folder)
        return train_run(config, folder, resuming)


def set_threads() -> None:
    """Take a share of the cores: of several jobs at a time, or what the scheduler gave this job."""
    at_once, given = count_parallel_jobs(), HydraConfig.get().launcher.get("cpus_per_task")
    if at_once > 1 or given:
        torch.set_num_threads(int(given or max(1, (os.cpu_count() or 1) // at_once)))


def is_finished(folder: Path) -> bool:
    """Return whether a job is done; its `metrics.json` is written last."""
    return (folder / "metrics.json").is_file()


def read_score(folder: Path) -> float | None:
    """Return the best validation score of a finished job; None where it has none."""
    score: float | None = json.loads((folder / "metrics.json").read_text()).get("monitored")
    return score


def check_same_settings(config: dict[str, Any], folder: Path) -> None:
    """Refuse to continue a folder with other settings, as when a YAML was edited between two commands.

    Raises:
        UserError: a setting differs.
    """
    there, here = (
        flatten_settings(node) for node in (read_run(str(folder)), yaml.safe_load(yaml.safe_dump(config)))
    )
    for key in sorted(there.keys() | here.keys()):
        if key.split(".")[0] not in UNCHECKED_GROUPS and there.get(key) != here.get(key):
            raise UserError(
                f"{key} must be {there.get(key)!r} as in {folder}, got {here.get(key)!r}. "
                "Move that folder away, or set another hydra.sweep.dir."
            )


def clear_folder(folder: Path) -> None:
    """Remove the files of a job without a checkpoint."""
    for name in LEFTOVERS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def count_ranks(config: DictConfig) -> int:
    """Return the number of processes of a training."""
    devices = config.trainer.devices
    if OmegaConf.is_list(devices):
        return len(devices)
    if isinstance(devices, int) and devices >= 0:
        return int(devices)
    return max(1, torch.cuda.device_count())


def has_external_ranks() -> bool:
    """Return whether Lightning, torchrun or SLURM has started the ranks."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def train_in_subprocess(config: DictConfig, folder: Path) -> float | None:
    """Train a job of several ranks as a command of its own.

    Lightning's ranks run the command line again. Inside a multirun this would be the whole sweep, and after a
    job that failed before its ranks were up, the next job's ranks would train another job (Lightning 11300,
    Hydra 2070). A separate process has its own command line. Its process group and environment end with it.

    Raises:
        UserError: the command's own message, or several jobs at a time would share the GPUs.
        RuntimeError: the command failed by a bug; the message holds its last lines.
    """
    hydra, at_once = HydraConfig.get(), count_parallel_jobs()
    if at_once > 1 and torch.cuda.is_available() and config.trainer.accelerator != "cpu":
        raise UserError(
            "launcher must be serial, submitit or ray for jobs of several GPUs, got one whose jobs would "
            "share them. Or set trainer.devices=1."
        )
    where = str(folder.absolute()).replace("'", "\\'")
    overrides = [text for text in hydra.overrides.task if override_key(text) not in EXECUTION_GROUPS]
    kept = [
        text
        for text in hydra.overrides.hydra
        if not text.startswith(("hydra.mode", "hydra.sweep", "hydra.run", "hydra.launcher"))
    ]
    command = [
        sys.executable,
        "-m",
        "rpe.tools.train",
        *overrides,
        *kept,
        f"hydra.run.dir='{where}'",
        "hydra.mode=RUN",
    ]
    threads = max(1, (os.cpu_count() or 1) // (at_once * count_ranks(config)))
    importable = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ | {IN_SWEEP: "1", "PYTHONPATH": importable}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    assert process.stderr is not None
    reader = threading.Thread(target=keep_tail, args=(process.stderr, tail.append), daemon=True)
    reader.start()
    try:
        status = process.wait()
    except BaseException:
        stop_process(process)
        raise
    reader.join(timeout=STOP_SECONDS)
    errors = [line for line in tail if line.startswith("error: ")]
    words = "".join(sorted(tail, key=lambda line: OTHER_RANK_LINE.match(line) is None))
    if status:
        if errors:
            raise UserError(errors[-1].removeprefix("error: ").strip())
        raise RuntimeError(f"its process ended with status {status}:\n{words}")
    if not is_finished(folder):
        raise RuntimeError(f"its process ended without {folder}/metrics.json:\n{words}")
    return read_score(folder)


def stop_process(process: subprocess.Popen[str]) -> None:
    """Stop a command that Ctrl-C has reached too.

    It gets time to end its run of wandb, then SIGTERM, then SIGKILL.
    """
    for end in (lambda: None, process.terminate, process.kill):
        end()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def keep_tail(stream: TextIO, keep: Callable[[str], None]) -> None:
    """Print a stream line by line, and keep the lines."""
    for line in stream:
        sys.stderr.write(line)
        keep(line)
