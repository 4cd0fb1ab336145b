"""One checkpoint evaluated by two processes and by one, through the user's door."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rpe.run
import train

ROOT = Path(__file__).parent.parent.parent
IMAGES = 7
TINY = ["backbone.width=8", "backbone.levels=2", "data.batch_size=2", "data.train_scenes=8", "data.val_scenes=3", "data.test_scenes=1"]


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *TINY, "loss.pixels=64", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"])
    rpe.run.enter(train.main)
    written = []
    for ranks in (1, 2):
        out = tmp_path / f"by-{ranks}"
        # one image a batch: convolutions may round otherwise in a batch of another size
        asked = [f"data.val_scenes={IMAGES}", "data.eval_batch_size=1", "proposal.foreground=0.2", "proposal.bandwidths=[0.1,0.3]"]
        several = ["trainer.devices=2", "trainer.accelerator=cpu", "+trainer.strategy=ddp"] if ranks > 1 else ["trainer.accelerator=cpu"]
        command = [sys.executable, str(ROOT / "evaluate.py"), f"run={tmp_path / 'run'}", f"hydra.run.dir={out}", *asked, *several]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        written.append((json.loads((out / "metrics.json").read_text())["figures"], json.loads((out / "proposals.json").read_text())))
    (figures, proposals), others = written
    assert figures["images"] == IMAGES and figures["masks-per-image"] > 0.5 and len(proposals) == figures["masks-per-image"] * IMAGES
    assert others == (figures, proposals), "to the last digit, and in the same order"
