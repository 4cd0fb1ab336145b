"""One checkpoint evaluated by two processes and by one, through the command line."""

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
TINY = [
    "backbone.width=8",
    "backbone.levels=2",
    "data.batch_size=2",
    "data.train_scenes=8",
    "data.val_scenes=3",
    "data.test_scenes=1",
]


SEVERAL = ["trainer.devices=2", "trainer.accelerator=cpu", "+trainer.strategy=ddp"]


def start(program: str, folder: Path, *arguments: str) -> None:
    """A command line in a process of its own, as ranks are started by running it again."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / program), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_classes_alone_are_learned_by_two_processes(tmp_path: Path) -> None:
    """What the cross-entropy does not reach has no gradient that the other rank would wait for."""
    alone = [
        "experiment=digits_semantic",
        "loss.pairwise.weight=0",
        *TINY,
        "data.test_scenes=2",
        "loss.pairwise.num_pixels=64",
        "trainer.max_epochs=1",
    ]
    start("train.py", tmp_path, *alone, f"hydra.run.dir={tmp_path / 'run'}", *SEVERAL)
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert figures["images"] == 2 and "mIoU" in figures and "AP" not in figures


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["digits", "digits_semantic"])
def test_two_processes_give_the_figures_of_one(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = [f"experiment={experiment}", *TINY, "loss.pairwise.num_pixels=64", "trainer.max_epochs=1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *tiny, f"hydra.run.dir={tmp_path / 'run'}"])
    rpe.run.run_command(train.main)
    written = []
    for ranks in (1, 2):
        out = tmp_path / f"by-{ranks}"
        # one image a batch: convolutions may round otherwise in a batch of another size
        options = [
            f"data.val_scenes={IMAGES}",
            "data.eval_batch_size=1",
            "proposal.foreground_thresholds=[0.2]",
            "proposal.bandwidths=[0.1,0.3]",
        ]
        several = SEVERAL if ranks > 1 else ["trainer.accelerator=cpu"]
        start("evaluate.py", tmp_path, f"run={tmp_path / 'run'}", f"hydra.run.dir={out}", *options, *several)
        files = (
            ["proposals.json", "instances.json", "components.json"]
            if experiment == "digits_semantic"
            else ["proposals.json"]
        )
        written.append(
            [
                json.loads((out / "metrics.json").read_text())["metrics"],
                *(json.loads((out / name).read_text()) for name in files),
            ]
        )
    (figures, proposals, *classified), others = written
    assert (
        figures["images"] == IMAGES
        and figures["masks-per-image"] > 0.5
        and len(proposals) == figures["masks-per-image"] * IMAGES
    )
    assert others == [figures, proposals, *classified], "to the last digit, and in the same order"
    assert ("mIoU" in figures) == (experiment == "digits_semantic")
