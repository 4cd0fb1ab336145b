"""train(config): a run, or a sweep's point, which is skipped where it is finished, gone on with from its last checkpoint, or begun, whichever launcher asks."""

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

from rpe.run.cli import plainly
from rpe.run.experiments import without_data
from rpe.run.lock import held
from rpe.run.log import logged
from rpe.run.sweep import UNRECORDED, key_of
from rpe.run.train import (
    is_first_rank,
    jobs_at_once,
    last_checkpoint,
    make_root_absolute,
    plain_config,
    train_run,
)
from rpe.run_files import PACKAGE, read_run
from rpe.structures import UserError

LEFTOVERS = ("checkpoints", "metrics.csv", "pictures", "resumed.yaml")
"""What a point that never reached a checkpoint may have left; it begins anew, in the same run of wandb."""

OF_SWEEP = "RPE_POINT_OF_A_SWEEP"
"""Set for the command that trains a point of several ranks, and for its ranks: they go on as the sweep would."""

FREE_TO_DIFFER = ("logger", "callback")
"""Groups that change no result."""

TAIL = 400
"""Lines of a process's errors that are kept for its reason."""

PATIENCE = 30
"""Seconds for a stopped command to put its things in order."""

OF_OTHER_RANKS = re.compile(r"\[rank[1-9]")
"""How torch begins the lines of all ranks but the first: when one fails, the others say no more than that it is gone."""


@plainly
def train(config: DictConfig) -> float | None:
    """Train a run or a job of a sweep into its folder.

    Returns:
        The best validation score, for Hydra's sweepers to maximize; None where no epoch was validated.

    Raises:
        UserError: a user's mistake; before training starts wherever that is possible.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN or OF_SWEEP in os.environ
    with logged(folder, keep=in_sweep):
        if config.resume is None and config.get("data") is None:
            raise UserError(without_data([str(text) for text in HydraConfig.get().overrides.task]))
        if in_sweep:
            return train_point(config, folder)
        if not is_first_rank():
            return train_run(config, folder, going_on=False)  # the first rank holds the folder
        with held(folder, waiting=None):
            return train_run(config, folder, going_on=False)


def train_point(config: DictConfig, folder: Path) -> float | None:
    """A sweep's point, from wherever it stands.

    A failed one is repeated as a killed one is gone on with: the epochs that are done are done.
    """
    set_threads()
    make_root_absolute(config)
    if not is_first_rank():  # the first holds the folder and clears it
        if is_finished(folder):
            return finished_score(folder)
        return train_run(config, folder, last_checkpoint(folder).is_file())
    if ranks_of(config) > 1 and not ranks_are_made_elsewhere() and OF_SWEEP not in os.environ:
        return train_apart(config, folder)
    with held(folder, f"{folder.name} is being trained by another process"):
        going_on = last_checkpoint(folder).is_file()
        if is_finished(folder) or going_on:
            check_same(plain_config(config), folder)
        if is_finished(folder):
            print(f"{folder.name} is done already", flush=True)
            return finished_score(folder)
        if not going_on:
            clear(folder)
        return train_run(config, folder, going_on)


def set_threads() -> None:
    """Take a share of the cores: of several jobs at a time, or what the scheduler gave this one."""
    at_once, given = jobs_at_once(), HydraConfig.get().launcher.get("cpus_per_task")
    if at_once > 1 or given:
        torch.set_num_threads(int(given or max(1, (os.cpu_count() or 1) // at_once)))


def is_finished(folder: Path) -> bool:
    """Return whether a job is done; its `metrics.json` is written last."""
    return (folder / "metrics.json").is_file()


def finished_score(folder: Path) -> float | None:
    """Return the best validation score of a finished job; None where it has none."""
    score: float | None = json.loads((folder / "metrics.json").read_text()).get("monitored")
    return score


def check_same(config: dict[str, Any], folder: Path) -> None:
    """Refuse to take a folder's work for that of other settings, as when a YAML was edited between two commands.

    Raises:
        UserError: naming the first key that differs.
    """
    there, here = (
        flattened(node) for node in (read_run(str(folder)), yaml.safe_load(yaml.safe_dump(config)))
    )
    for key in sorted(there.keys() | here.keys()):
        if key.split(".")[0] not in FREE_TO_DIFFER and there.get(key) != here.get(key):
            raise UserError(
                f"{folder} was trained with other settings: {key} is {there.get(key)!r} there and {here.get(key)!r} here; "
                "move that folder away, or name another by hydra.sweep.dir"
            )


def flattened(node: Any, path: str = "") -> dict[str, Any]:
    """All leaves by their dotted key."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        key: leaf
        for name, child in node.items()
        for key, leaf in flattened(child, f"{path}.{name}" if path else str(name)).items()
    }


def clear(folder: Path) -> None:
    """Remove what a point without a checkpoint has left."""
    for name in LEFTOVERS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def ranks_of(config: DictConfig) -> int:
    """How many processes a training takes."""
    devices = config.trainer.devices
    if OmegaConf.is_list(devices):
        return len(devices)
    if isinstance(devices, int) and devices >= 0:
        return int(devices)
    return max(1, torch.cuda.device_count())


def ranks_are_made_elsewhere() -> bool:
    """Whether something else starts the ranks: Lightning or torchrun did, or SLURM does."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def train_apart(config: DictConfig, folder: Path) -> float | None:
    """Train a point of several ranks as a command of its own.

    Lightning's ranks run the command line again: inside a multirun this would be the whole sweep, and a point that failed before its ranks were up would
    leave the next one's ranks on another point (Lightning 11300, Hydra 2070). A process of its own has a command line of its own, and takes its process
    group and environment with it when it ends.

    Raises:
        UserError: what the command said, or several points at a time are to share the GPUs.
        RuntimeError: the command's last words, where it failed by a fault.
    """
    hydra, at_once = HydraConfig.get(), jobs_at_once()
    if at_once > 1 and torch.cuda.is_available() and config.trainer.accelerator != "cpu":
        raise UserError(
            "several points of several GPUs each would share them: take launcher=serial, submitit or ray, or trainer.devices=1"
        )
    where = str(folder.absolute()).replace("'", "\\'")
    asked = [text for text in hydra.overrides.task if key_of(text) not in UNRECORDED]
    kept = [
        text
        for text in hydra.overrides.hydra
        if not text.startswith(("hydra.mode", "hydra.sweep", "hydra.run", "hydra.launcher"))
    ]
    command = [
        sys.executable,
        "-m",
        "rpe.tools.train",
        *asked,
        *kept,
        f"hydra.run.dir='{where}'",
        "hydra.mode=RUN",
    ]
    threads = max(1, (os.cpu_count() or 1) // (at_once * ranks_of(config)))
    importable = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ | {OF_SWEEP: "1", "PYTHONPATH": importable}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    tail: deque[str] = deque(maxlen=TAIL)
    assert process.stderr is not None
    reader = threading.Thread(target=keep_tail, args=(process.stderr, tail.append), daemon=True)
    reader.start()
    try:
        status = process.wait()
    except BaseException:
        stop(process)
        raise
    reader.join(timeout=PATIENCE)
    said = [line for line in tail if line.startswith("error: ")]
    words = "".join(sorted(tail, key=lambda line: OF_OTHER_RANKS.match(line) is None))
    if status:
        if said:
            raise UserError(said[-1].removeprefix("error: ").strip())
        raise RuntimeError(f"its process ended with {status}:\n{words}")
    if not is_finished(folder):
        raise RuntimeError(f"its process ended without {folder}/metrics.json:\n{words}")
    return finished_score(folder)


def stop(process: subprocess.Popen[str]) -> None:
    """End a command that Ctrl-C has reached too: give it time to end its run of wandb, then less, then none."""
    for end in (lambda: None, process.terminate, process.kill):
        end()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        return


def keep_tail(stream: TextIO, keep: Callable[[str], None]) -> None:
    """Hand a stream on line by line, and keep it."""
    for line in stream:
        sys.stderr.write(line)
        keep(line)
