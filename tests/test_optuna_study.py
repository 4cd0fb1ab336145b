"""The shipped Optuna study: trials are trainings, a killed study resumes, and the score is that of validation."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tiny import tiny

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "optuna_study.py"


@pytest.mark.slow
def test_a_killed_study_resumes_and_ends_with_its_trials(tmp_path: Path) -> None:
    fixed = [*tiny(8, 2, 1), "trainer.max_epochs=2", "callbacks.pictures=null"]
    command = [sys.executable, str(SCRIPT), "trials=2", f"folder={tmp_path}", *fixed]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    study = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    while not (tmp_path / "trial-0" / "checkpoints" / "last.ckpt").is_file():
        assert study.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.1)
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=900)
    trials = optuna.load_study(study_name="rpe", storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(finished) == 2 and len(list(tmp_path.glob("trial-*/metrics.json"))) == 2
    assert len({tuple(trial.params.values()) for trial in finished}) == 2
    for trial in finished:
        folder = tmp_path / trial.user_attrs.get("folder", f"trial-{trial.number}")
        with (folder / "metrics.csv").open() as file:
            scores = [float(row["val/AR@100"]) for row in csv.DictReader(file)]
        assert (
            len(scores) == 2
            and trial.value
            == pytest.approx(max(scores))
            == json.loads((folder / "metrics.json").read_text())["monitored"]
        )


def test_a_study_that_is_finished_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("optuna_study", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    asked: list[list[str]] = []
    monkeypatch.setattr(
        script, "train", lambda folder, overrides: asked.append([folder.name, *overrides]) or len(asked) / 10
    )
    assert script.main(["trials=2", f"folder={tmp_path}", "experiment=digits"]).best_value == 0.2
    assert [one[:2] for one in asked] == [["trial-0", "experiment=digits"], ["trial-1", "experiment=digits"]]
    assert all(one[2].startswith("loss.pairwise.margin=") for one in asked) and asked[0] != asked[1]
    script.main(["trials=2", f"folder={tmp_path}", "experiment=digits"])
    assert len(asked) == 2
    script.main(["trials=4", f"folder={tmp_path}", "experiment=digits"])
    assert len(asked) == 4 == len({tuple(one[2:]) for one in asked}), "it suggests its first trials again"
