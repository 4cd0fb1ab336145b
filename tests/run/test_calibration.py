import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from rpe.run.calibration import FILE, apply_calibration, fit_settings, write_calibration
from rpe.segment import HeuristicRanker
from rpe.segment.calibration import CalibratedRanker
from rpe.structures import UserError
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

KNOTS = np.array([[0.1, 0.9], [0.0, 0.5]])


def a_task(groups: bool = True) -> InstanceTask:
    """No more of a task than has a ranker."""
    task = InstanceTask.__new__(InstanceTask)
    torch.nn.Module.__init__(task)
    task.proposal, task.groups = torch.nn.Module(), groups
    task.proposal.ranker = HeuristicRanker(4, 20.0)
    return task


def configs(folder: Path, calibrated: object = True, area: float = 20.0) -> tuple[DictConfig, DictConfig]:
    return OmegaConf.create({"run": str(folder), "calibrated": calibrated}), OmegaConf.create(
        {"ranker": {"typical_area": area}}
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "best.ckpt"
    file.write_bytes(b"weights")
    write_calibration(tmp_path, KNOTS, fit_settings(configs(tmp_path)[1], file), {"data": "digits"})
    return file


def test_it_is_applied_when_requested(weights: Path) -> None:
    task = a_task()
    assert apply_calibration(*configs(weights.parent, False), weights, task) == {} and isinstance(
        task.proposal.ranker, HeuristicRanker
    )
    assert apply_calibration(*configs(weights.parent), weights, task) == {
        "calibration": {"scores": [0.1, 0.9], "ious": [0.0, 0.5]}
    }
    assert isinstance(task.proposal.ranker, CalibratedRanker) and task.proposal.ranker.ious == [0.0, 0.5]


def test_what_it_was_not_fitted_for_is_refused(weights: Path) -> None:
    folder = weights.parent
    with pytest.raises(
        UserError,
        match="with other ranker than .*calibration.json was fitted for, got true. Leave it out, or run python",
    ):
        apply_calibration(*configs(folder, area=30.0), weights, a_task())
    (folder / "other.ckpt").write_bytes(b"other")
    with pytest.raises(UserError, match="with other weights than"):
        apply_calibration(*configs(folder), folder / "other.ckpt", a_task())
    with pytest.raises(UserError, match="calibrated must be true or false, got 1"):
        apply_calibration(*configs(folder, 1), weights, a_task())
    for task in (a_task(groups=False), Task.__new__(Task)):
        with pytest.raises(UserError, match="calibrated must be false for a run without grouping"):
            apply_calibration(*configs(folder), weights, task)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"scores": [1], "ious": [1], "fitted_for": {}}',
        '{"scores": [0, 1], "ious": ["a", 1]}',
        '{"scores": [1, 0], "ious": [0, 1], "fitted_for": {}}',
        '{"scores": [0, 1], "ious": [0, NaN], "fitted_for": {}}',
        "\udcff",
    ],
)
def test_broken_and_missing_files(content: str, weights: Path) -> None:
    file = weights.parent / FILE
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="calibration.json must be as rpe.tools.calibrate wrote it"):
        apply_calibration(*configs(weights.parent), weights, a_task())
    file.write_text(json.dumps({"scores": [0, 1], "ious": [0, 1], "fitted_for": None}))
    with pytest.raises(UserError, match="with other weights and ranker"):
        apply_calibration(*configs(weights.parent), weights, a_task())
    file.unlink()
    with pytest.raises(
        UserError,
        match="calibrated must be false without .*, got true. Run python -m rpe.tools.calibrate run=",
    ):
        apply_calibration(*configs(weights.parent), weights, a_task())
