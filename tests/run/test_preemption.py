"""A training that is stopped in the middle of an epoch ends with the numbers of one that is not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny

import train
from rpe.callbacks.checkpoint import WholeCheckpoints
from rpe.network.backbone.decoder import ConvolutionBlock
from rpe.structures import Batch
from rpe.task.instance import InstanceTask

CommandLine = Callable[..., None]
ROOT = Path(__file__).parent.parent.parent
SETTINGS = [
    *tiny(14, 2, 2),
    "trainer.max_epochs=2",
    "callbacks=average",
    "callbacks.pictures=null",
    "accumulation=four",
    "trainer.accumulate_grad_batches=2",
]
"""Seven steps an epoch, of which an optimizer's step takes two."""


def check_equal(run: Path, whole: Path) -> None:
    """The rows of all epochs, the test metrics and all that the last checkpoint holds are the same, bit by bit."""
    for name in ("metrics.csv", "metrics.json"):
        texts = [(folder / name).read_text().split('"run"')[0] for folder in (run, whole)]
        assert texts[0] == texts[1], name
    states = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (run, whole)]
    for name in ("state_dict", "current_model_state", "averaging_state"):
        pairs = [(states[0][name][key], states[1][name][key]) for key in states[1].get(name, {})]
        assert all(torch.equal(*pair) for pair in pairs), name


def position(run: Path) -> dict[str, int]:
    """How far the last checkpoint's epoch has come."""
    state: dict[str, int] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True).get("Digits", {})
    return state


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_by_sigterm_and_resumed(
    workers: int, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network that draws numbers itself, averaged weights and accumulated gradients."""
    block, step = ConvolutionBlock.forward, InstanceTask.training_step
    settings = [*SETTINGS, f"data.num_workers={workers}"]

    def dropping(self: ConvolutionBlock, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(block(self, images), 0.1, self.training)

    def stopped(task: InstanceTask, batch: Batch, index: int) -> torch.Tensor:
        if (task.current_epoch, index) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(task, batch, index)

    monkeypatch.setattr(ConvolutionBlock, "forward", dropping)
    command_line(train.main, *settings, f"hydra.run.dir={tmp_path / 'whole'}")
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(InstanceTask, "training_step", stopped)
        command_line(train.main, *settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert stop.value.code == 143 and position(tmp_path / "run") == {"epoch": 1, "batches": 4, "ranks": 1}
    command_line(train.main, f"resume={tmp_path / 'run'}")
    assert position(tmp_path / "run") == {}
    check_equal(tmp_path / "run", tmp_path / "whole")


def test_stopped_in_a_validation_and_resumed(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation is finished first. Then workers begin to load before Lightning sets the epoch."""
    validate, settings = InstanceTask.validation_step, [*SETTINGS, "data.num_workers=1"]

    def stopped(task: InstanceTask, batch: Batch, index: int) -> None:
        validate(task, batch, index)
        os.kill(os.getpid(), signal.SIGTERM)

    command_line(train.main, *settings, f"hydra.run.dir={tmp_path / 'whole'}")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(InstanceTask, "validation_step", stopped)
        command_line(train.main, *settings, f"hydra.run.dir={tmp_path / 'run'}")
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 2 and not position(tmp_path / "run")
    command_line(train.main, f"resume={tmp_path / 'run'}")
    check_equal(tmp_path / "run", tmp_path / "whole")


def test_killed_in_its_first_epoch_after_a_checkpoint(
    command_line: CommandLine, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, files = WholeCheckpoints.save_checkpoint, []

    def killed(io: WholeCheckpoints, checkpoint: dict, path: str, storage_options: object = None) -> None:
        save(io, checkpoint, path, storage_options)
        files.append(Path(path).name)
        if len(files) == 2:
            raise InterruptedError

    command_line(train.main, *SETTINGS, f"hydra.run.dir={tmp_path / 'whole'}")
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(WholeCheckpoints, "save_checkpoint", killed)
        command_line(train.main, *SETTINGS, "checkpoint_minutes=1e-9", f"hydra.run.dir={tmp_path / 'run'}")
    assert files == ["last.ckpt"] * 2 and position(tmp_path / "run")["batches"] == 4
    line = refused(train.main, f"resume={tmp_path / 'run'}", "trainer.devices=2", "trainer.accelerator=cpu")
    assert "trainer.devices must give 1 ranks, got 2. The run stopped in the middle of an epoch" in line
    command_line(train.main, f"resume={tmp_path / 'run'}")
    check_equal(tmp_path / "run", tmp_path / "whole")


def test_a_time_between_checkpoints_is_positive(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused(train.main, *SETTINGS, "checkpoint_minutes=0", f"hydra.run.dir={tmp_path}")
    assert "checkpoint_minutes must be > 0, got 0. null saves at the end of each epoch only." in line


def start(ranks: int, *arguments: str) -> subprocess.Popen[bytes]:
    """A command in a process group of its own, by torchrun where it has several ranks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    command = [sys.executable, *(torchrun if ranks > 1 else []), str(ROOT / "train.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written a checkpoint of its own."""
    file, began = run / "checkpoints" / "last.ckpt", time.time()
    while process.poll() is None and not (file.exists() and file.stat().st_mtime > began):
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_processes_that_are_stopped_and_killed(ranks: int, tmp_path: Path) -> None:
    """All processes of a training receive SIGTERM, its workers too; after resuming, one rank is killed."""
    settings = [*tiny(60 * ranks, 2, 2), "trainer.max_epochs=2", "checkpoint_minutes=1e-9"]
    settings += ["callbacks.pictures=null", f"data.num_workers={3 - ranks}"]
    several = ["trainer=ddp", f"trainer.devices={ranks}", "trainer.accelerator=cpu"] if ranks > 1 else []
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert start(ranks, *settings, *several, f"hydra.run.dir={whole}").wait() == 0
    process = start(ranks, *settings, *several, f"hydra.run.dir={run}")
    wait_for_checkpoint(run, process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() != 0
    stopped = position(run)
    process = start(ranks, f"resume={run}")
    wait_for_checkpoint(run, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]) if ranks > 1 else process.pid, signal.SIGKILL)
    assert process.wait() != 0
    killed = position(run)
    assert stopped["ranks"] == killed["ranks"] == ranks
    assert (stopped["epoch"], stopped["batches"]) < (killed["epoch"], killed["batches"])
    assert start(ranks, f"resume={run}").wait() == 0
    check_equal(run, whole)
