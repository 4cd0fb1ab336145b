"""Compiled training: no graph break in network, grouping and loss, and the numbers of the plain one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from digits_task import make_task

from rpe.callbacks.compile import CompileTraining, compiled_parts
from rpe.structures import UserError

AUDIT = Path(__file__).parent.parent / "compile_audit.py"


def test_each_part_is_one_graph_and_a_compiled_run_is_the_plain_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(AUDIT), str(tmp_path)], capture_output=True, text=True, cwd=AUDIT.parent.parent
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert set(found["networks"].values()) == {0}, done.stderr
    for name, case in found["losses"].items():
        assert case["breaks"] == 0 and case["difference"] <= 1e-6 and case["type"] == "torch.float32", name
    assert found["runs"]["aot_eager"] == pytest.approx(found["runs"]["false"], rel=1e-5)
    states = [torch.load(tmp_path / run / "checkpoints/last.ckpt") for run in ("false", "aot_eager")]
    assert states[0]["state_dict"].keys() == states[1]["state_dict"].keys()


def test_its_parts_and_an_unknown_backend() -> None:
    task, _ = make_task()
    names = [type(part).__name__ for part in compiled_parts(task)]
    assert names == ["UNet", "Embedding", "MeanShift", "Objectness", "SampledPairwiseLoss"]
    with pytest.raises(
        UserError, match="compile must be true, false or a backend of torch.compile, got turbo"
    ):
        CompileTraining("turbo")
