import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from rpe.run.fitted import CALIBRATION_FILE, TUNED_FILE, apply_calibration, apply_tuning, write_fitted
from rpe.segment import HeuristicRanker
from rpe.segment.ranker import CalibratedRanker
from rpe.structures import UserError
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

SETTINGS = {"foreground_thresholds": [0.4], "bandwidths": [0.3], "min_area": 5, "score_threshold": 0.2}
KNOTS = {"scores": [0.1, 0.9], "ious": [0.0, 0.5]}


def a_task(groups: bool = True) -> InstanceTask:
    """No more of a task than has a ranker."""
    task = InstanceTask.__new__(InstanceTask)
    torch.nn.Module.__init__(task)
    task.proposal, task.uses_grouping = torch.nn.Module(), groups
    task.proposal.ranker = HeuristicRanker(4, 20.0)
    return task


def configs(
    folder: Path, calibrated: object = False, tuned: object = False, area: float = 20.0
) -> tuple[DictConfig, DictConfig]:
    command = OmegaConf.create({"run": str(folder), "tuned": tuned, "calibrated": calibrated})
    proposal = {
        "foreground_thresholds": [0.5],
        "bandwidths": [0.2],
        "min_area": 4,
        "score_threshold": 0.5,
        "iterations": [7],
    }
    return command, OmegaConf.create({"ranker": {"typical_area": area}, "proposal": proposal})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "best.ckpt"
    file.write_bytes(b"weights")
    for name, content in ((CALIBRATION_FILE, KNOTS), (TUNED_FILE, {"proposal": SETTINGS})):
        write_fitted(tmp_path / name, content, configs(tmp_path)[1], file, {"data": "digits"})
    return file


def test_the_calibration_is_applied_when_requested(weights: Path) -> None:
    task = a_task()
    assert apply_calibration(*configs(weights.parent, False), weights, task) == {} and isinstance(
        task.proposal.ranker, HeuristicRanker
    )
    assert apply_calibration(*configs(weights.parent, True), weights, task) == {
        "calibration": {"scores": [0.1, 0.9], "ious": [0.0, 0.5]}
    }
    assert isinstance(task.proposal.ranker, CalibratedRanker) and task.proposal.ranker.ious == [0.0, 0.5]


def test_what_the_calibration_was_not_fitted_for_is_refused(weights: Path) -> None:
    folder = weights.parent
    with pytest.raises(
        UserError,
        match="with other ranker than .*calibration.json was fitted for, got true. Leave it out, or run python",
    ):
        apply_calibration(*configs(folder, True, area=30.0), weights, a_task())
    (folder / "other.ckpt").write_bytes(b"other")
    with pytest.raises(UserError, match="with other weights than"):
        apply_calibration(*configs(folder, True), folder / "other.ckpt", a_task())
    with pytest.raises(UserError, match="calibrated must be true or false, got 1"):
        apply_calibration(*configs(folder, 1), weights, a_task())
    for task in (a_task(groups=False), Task.__new__(Task)):
        with pytest.raises(UserError, match="calibrated must be false for a run without grouping"):
            apply_calibration(*configs(folder, True), weights, task)


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
def test_broken_and_missing_calibrations(content: str, weights: Path) -> None:
    file = weights.parent / CALIBRATION_FILE
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="calibration.json must be as rpe.tools.calibrate wrote it"):
        apply_calibration(*configs(weights.parent, True), weights, a_task())
    file.write_text(json.dumps({"scores": [0, 1], "ious": [0, 1], "fitted_for": None}))
    with pytest.raises(UserError, match="with other weights and ranker"):
        apply_calibration(*configs(weights.parent, True), weights, a_task())
    file.unlink()
    with pytest.raises(
        UserError,
        match="calibrated must be false without .*, got true. Run python -m rpe.tools.calibrate run=",
    ):
        apply_calibration(*configs(weights.parent, True), weights, a_task())


def test_the_chosen_settings_replace_those_that_were_not_given(weights: Path) -> None:
    for tuned, overridden, expected in (
        (False, [], {"min_area": 4, "score_threshold": 0.5, "bandwidths": [0.2]}),
        (True, [], {"min_area": 5, "score_threshold": 0.2, "bandwidths": [0.3]}),
        (True, ["proposal.min_area"], {"min_area": 4, "score_threshold": 0.2, "bandwidths": [0.3]}),
    ):
        command, run = configs(weights.parent, tuned=tuned)
        apply_tuning(command, run, weights, overridden)
        assert {key: run.proposal[key] for key in expected} == expected and run.proposal.iterations == [7]


def test_settings_for_other_weights_and_broken_ones_are_refused(weights: Path) -> None:
    (weights.parent / "other.ckpt").write_bytes(b"other")
    with pytest.raises(UserError, match="tuned must be false with other weights than .*tuned.json"):
        apply_tuning(*configs(weights.parent, tuned=True), weights.parent / "other.ckpt", [])
    with pytest.raises(UserError, match="tuned must be true or false, got 1"):
        apply_tuning(*configs(weights.parent, tuned=1), weights, [])
    content = json.loads((weights.parent / TUNED_FILE).read_text())
    del content["proposal"]["min_area"]
    (weights.parent / TUNED_FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match="tuned.json must be as rpe.tools.tune wrote it, got KeyError"):
        apply_tuning(*configs(weights.parent, tuned=True), weights, [])
