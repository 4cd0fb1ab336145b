"""Training on another device: no operation mixes devices, and nothing in network, grouping and loss stops it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rpe.run_files import CONF
from rpe.structures import BoundaryBatch, upload

AUDIT = Path(__file__).parent / "device_audit.py"
AVERAGING = 2
"""Stops of Lightning's average of the weights: it reads its own step count from the device."""


def audit(folder: Path, *arguments: str) -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, str(AUDIT), str(folder), *arguments],
        capture_output=True,
        text=True,
        cwd=AUDIT.parent.parent,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_step_of_digits_stops_nowhere(tmp_path: Path) -> None:
    found = audit(tmp_path, "--steps", "digits")["digits"]
    assert found["first"] == [0] and set(found["later"]) == {0}, found["places"]


@pytest.mark.slow
def test_every_experiment_stops_at_most_as_often_as_stated(tmp_path: Path) -> None:
    """A mix of devices ends the audit; validation, test, pictures and boundary maps run too."""
    for experiment, found in audit(tmp_path).items():
        config = (CONF / "experiment" / f"{experiment}.yaml").read_text()
        averaging = AVERAGING * ("/callbacks: average" in config)
        ranker = 4 * (experiment in ("voc", "coco", "voc_paper", "voc_instance"))
        assert max(found["later"]) <= averaging, (experiment, found["places"])
        assert max(found["first"]) <= averaging + ranker, (experiment, found["places"])


def test_a_batch_is_pinned_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # without a GPU no memory can be pinned
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.numel()) or self.clone())
    batch = BoundaryBatch(
        torch.zeros(1, 3, 2, 2),
        torch.zeros(1, 2, 2).long(),
        [7],
        [(2, 2)],
        torch.zeros(1, 1, 2, 2).long(),
        ["a"],
    )
    copied = batch.pin_memory()
    assert isinstance(copied, BoundaryBatch) and pinned == [12, 4, 4]
    assert copied.image_ids == [7] and copied.names == ["a"] and copied.images is not batch.images


def test_upload_keeps_what_is_there_already() -> None:
    values = torch.arange(3)
    assert upload(values, torch.device("cpu")) is values
