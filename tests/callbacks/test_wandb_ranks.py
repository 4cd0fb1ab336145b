"""Several processes that train together are one run of wandb, which the first of them writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny
from wandb_files import wandb_files

ROOT = Path(__file__).parent.parent.parent
TINY = tiny(4, 2, 2, batch=1)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path: Path) -> None:
    several = [
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "+trainer.strategy=ddp",
        "trainer.max_epochs=2",
    ]
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *TINY,
        *several,
        "logger=wandb",
        "callbacks.pictures.images=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "WANDB_DIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = wandb_files(tmp_path)
    assert (
        run.exit_code == 0
        and run.column("epoch") == [0, 1]
        and [row["_step"] for row in run.history] == [1, 3, 4]
    )
    assert (
        f"{run.id}\n" == (tmp_path / "run" / "wandb_id").read_text()
        and run.column("sheets")
        and run.summary["test/images"] == 2
    )
