import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from bsds_miniature import write_bsds

import evaluate
import predict
import train
from rpe.data.module import SplitData
from rpe.run import building
from rpe.task.base import Result, Scoring
from rpe.task.boundary import BoundaryTask
from rpe.task.instance import InstanceTask

Refused = Callable[..., str]


@pytest.fixture
def run(command_line: Callable[..., None], tmp_path: Path) -> Path:
    """A run that was written down, and stopped there."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("rpe.run.train.fit_and_test", stop)
        command_line(train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'run'}")
    return tmp_path / "run"


def stop(*_: object) -> None:
    raise InterruptedError


def test_slips(run: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "task must be that of the run" in refused(evaluate.main, f"run={run}", "task=instance")
    assert "names must be null beside run=" in refused(evaluate.main, f"run={run}", "names=[1]")
    assert (
        "score_threshold must be given with predictions= only, got run=. Set proposal.score_threshold"
        in refused(evaluate.main, f"run={run}", "score_threshold=0.1")
    )
    assert "thinning must be given with predictions= only, got run=" in refused(
        evaluate.main, f"run={run}", "thinning=false"
    )
    assert "thresholds must be given with predictions= only, got run=, counted at the official 99" in refused(
        evaluate.main, f"run={run}", "thresholds=5"
    )
    assert "backend must be one of own, faster, pycocotools, got fast" in refused(
        evaluate.main, f"run={run}", "backend=fast"
    )
    assert "proposal.max_proposals must be an integer, got 'abc'" in refused(
        evaluate.main, f"run={run}", "proposal.max_proposals=abc"
    )
    assert "data.val_scenes must be >= 1, got 0" in refused(evaluate.main, f"run={run}", "data.val_scenes=0")
    assert "checkpoint must be best, last or a .ckpt file, got null" in refused(
        evaluate.main, f"run={run}", "checkpoint=null"
    )
    assert "best.ckpt. Name a run folder that has trained" in refused(evaluate.main, f"run={run}")
    assert "split must be one of train, val, test, got 'tset'" in refused(
        evaluate.main, f"run={run}", "split=tset"
    )
    (run / "config.yaml").write_text("seed: 0")
    assert "trainer must have a _target_" in refused(evaluate.main, f"run={run}", "data=digits")


def test_a_refused_command_leaves_no_folder(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(evaluate.main)
    refused(predict.main, "run=nowhere", "images=nothing")
    assert not list(tmp_path.iterdir())


def test_predictions_are_scored_by_the_task(
    command_line: Callable[..., None], refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def score(
        data: SplitData, split: str, predictions: Path, folder: Path, names: list | None, scoring: Scoring
    ) -> Result:
        asked.append((data.name, split, predictions, folder, names, scoring))
        return Result({"ODS": 0.5})

    monkeypatch.setattr(InstanceTask, "score", staticmethod(score))
    named = [
        f"predictions={tmp_path / 'a folder'}",
        "data=digits",
        "split=test",
        f"hydra.run.dir={tmp_path / 'out'}",
    ]
    command_line(
        evaluate.main,
        *named,
        "names=[7,a b]",
        "backend=faster",
        "score_threshold=0.25",
        "thresholds=5",
        "thinning=false",
    )
    assert (
        asked
        == [
            (
                "digits",
                "test",
                tmp_path / "a folder",
                tmp_path / "out",
                [7, "a b"],
                Scoring("faster", 0.25, 5, thinning=False),
            )
        ]
        and '"ODS": 0.5' in (tmp_path / "out" / "metrics.json").read_text()
    )
    assert "backend must be one of own, faster, pycocotools, got fast" in refused(
        evaluate.main, *named, "backend=fast"
    )
    assert "backend must be one of own, got faster" in refused(
        evaluate.main, f"predictions={tmp_path}", "data=bsds", "task=boundary", "backend=faster"
    )
    assert "thinning must be true or false, got no" in refused(evaluate.main, *named, "thinning='no'")
    assert "thresholds must be an integer >= 2, got 1" in refused(evaluate.main, *named, "thresholds=1")
    assert "thresholds must be an integer >= 2, got 9.5" in refused(evaluate.main, *named, "thresholds=9.5")
    assert "score_threshold must be a finite number, got None" in refused(
        evaluate.main, *named, "score_threshold=null"
    )
    assert "names must be text or integers, got 100000.0" in refused(evaluate.main, *named, "names=[1e5]")
    assert "names must be a list or null, got 7" in refused(evaluate.main, *named, "names=7")
    monkeypatch.setattr(InstanceTask, "takes", type("BoundaryData", (SplitData,), {}))
    assert "data must be BoundaryData for rpe.task.instance.InstanceTask, got digits (Digits)." in refused(
        evaluate.main, *named
    )
    monkeypatch.setattr(building, "build_data", stop)


def test_an_evaluation_that_ends_while_it_writes_leaves_no_earlier_metrics(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tables of one command must not lie beside the metrics of another."""
    named = [f"predictions={tmp_path}", "data=digits", f"hydra.run.dir={tmp_path / 'out'}"]
    monkeypatch.setattr(InstanceTask, "score", staticmethod(lambda *_: Result({"AP": 0.5})))
    command_line(evaluate.main, *named)
    assert (tmp_path / "out" / "metrics.json").is_file()
    monkeypatch.setattr("rpe.run.evaluate.pictures_of", stop)
    with pytest.raises(InterruptedError):
        command_line(evaluate.main, *named)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_ctrl_c_is_one_line_that_says_where_to_go_on(
    command_line: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def stopped(*_: object) -> Result:
        raise KeyboardInterrupt

    monkeypatch.setattr(InstanceTask, "score", staticmethod(stopped))
    with pytest.raises(SystemExit) as stop:
        command_line(
            evaluate.main,
            f"predictions={tmp_path / 'x.json'}",
            "data=digits",
            f"hydra.run.dir={tmp_path / 'out'}",
        )
    error = capsys.readouterr().err
    assert (
        stop.value.code == 130
        and f"stopped by Ctrl-C; finished work is kept in {tmp_path / 'out'}" in error
        and "Traceback" not in error
    )


TINY = [
    "experiment=bsds_scratch",
    "data.crop=32",
    "data.num_workers=0",
    "data.batch_size=2",
    "backbone.width=4",
    "loss.pairwise.num_pixels=64",
    "callbacks.pictures=null",
]


def test_a_run_without_a_validation_is_evaluated_by_its_last_weights(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    tiny = [
        *TINY,
        f"data.root={write_bsds(tmp_path / 'bsds', images=2)}",
        "trainer.max_epochs=1",
        "trainer.check_val_every_n_epoch=2",
    ]
    command_line(train.main, *tiny, f"hydra.run.dir={tmp_path / 'run'}")
    assert [file.name for file in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]
    command_line(evaluate.main, f"run={tmp_path / 'run'}", "split=test")
    whole = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert (
        json.loads((tmp_path / "run" / "evaluation" / "bsds-test" / "metrics.json").read_text())["metrics"]
        == whole
    )
    command_line(
        train.main,
        *tiny[:-2],
        f"init_from={tmp_path / 'run'}",
        "debug=quick",
        f"hydra.run.dir={tmp_path / 'quick'}",
    )
    assert (tmp_path / "quick" / "checkpoints" / "best.ckpt").is_file(), (
        "two batches of everything, so of the validation too"
    )


def test_ctrl_c_while_training_is_one_line_too(
    command_line: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def stopped(task: BoundaryTask, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BoundaryTask, "training_step", stopped)
    with pytest.raises(SystemExit) as stop:
        command_line(
            train.main,
            *TINY,
            f"data.root={write_bsds(tmp_path / 'bsds', images=2)}",
            f"hydra.run.dir={tmp_path / 'run'}",
        )
    error = capsys.readouterr().err
    assert stop.value.code == 130 and "stopped by Ctrl-C" in error and "Traceback" not in error
