import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from rpe.run.tuning import TUNED_FILE, apply_tuning, write_tuning
from rpe.structures import UserError

SETTINGS = {"foreground_thresholds": [0.4], "bandwidths": [0.3], "min_area": 5, "score_threshold": 0.2}


def configs(folder: Path, tuned: object = True) -> tuple[DictConfig, DictConfig]:
    command = OmegaConf.create({"run": str(folder), "tuned": tuned, "calibrated": False})
    proposal = {
        "foreground_thresholds": [0.5],
        "bandwidths": [0.2],
        "min_area": 4,
        "score_threshold": 0.5,
        "iterations": [7],
    }
    return command, OmegaConf.create({"ranker": {"typical_area": 20.0}, "proposal": proposal})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "best.ckpt"
    file.write_bytes(b"weights")
    write_tuning(tmp_path, SETTINGS, configs(tmp_path)[1], file, {"data": "digits"})
    return file


def test_the_chosen_settings_replace_those_that_were_not_given(weights: Path) -> None:
    for tuned, overridden, expected in (
        (False, [], {"min_area": 4, "score_threshold": 0.5, "bandwidths": [0.2]}),
        (True, [], {"min_area": 5, "score_threshold": 0.2, "bandwidths": [0.3]}),
        (True, ["proposal.min_area"], {"min_area": 4, "score_threshold": 0.2, "bandwidths": [0.3]}),
    ):
        command, run = configs(weights.parent, tuned)
        apply_tuning(command, run, weights, overridden)
        assert {key: run.proposal[key] for key in expected} == expected and run.proposal.iterations == [7]


def test_other_weights_and_broken_files_are_refused(weights: Path) -> None:
    (weights.parent / "other.ckpt").write_bytes(b"other")
    with pytest.raises(UserError, match="tuned must be false with other weights than .*tuned.json"):
        apply_tuning(*configs(weights.parent), weights.parent / "other.ckpt", [])
    with pytest.raises(UserError, match="tuned must be true or false, got 1"):
        apply_tuning(*configs(weights.parent, 1), weights, [])
    content = json.loads((weights.parent / TUNED_FILE).read_text())
    del content["proposal"]["min_area"]
    (weights.parent / TUNED_FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match="tuned.json must be as rpe.tools.tune wrote it, got KeyError"):
        apply_tuning(*configs(weights.parent), weights, [])
