"""A sweep with failing points: all are named at the end, the others are done."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import train
from rpe.data.digits import DigitScenes
from rpe.run.sweep import REASON, failed_points

TINY = [
    "backbone.width=8",
    "backbone.levels=2",
    "data.batch_size=2",
    "data.train_scenes=2",
    "data.val_scenes=1",
    "data.test_scenes=1",
    "loss.pixels=64",
]


def test_all_failing_points_are_named(door: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    swept = ["-m", "loss.margin=0.5,2.0,abc,0.3", "trainer.max_epochs=0", f"hydra.sweep.dir={tmp_path / 'a b=c'}"]
    with pytest.raises(SystemExit) as stop:
        door(train.main, *TINY, *swept)
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-3] == "error: 2 of the sweep's points failed, all others are done"
    assert lines[-2].startswith("  1_") and lines[-2].endswith("margin 2.0 is outside [0, 1): 0.5 asks that different objects be orthogonal")
    assert lines[-1].startswith("  2_") and lines[-1].endswith("loss.margin must be a number, not 'abc'")
    assert "Traceback" not in "".join(lines)
    assert len(list((tmp_path / "a b=c").rglob("metrics.json"))) == 2 and len(list((tmp_path / "a b=c").rglob(REASON))) == 2


def test_a_point_that_fails_by_our_fault_leaves_its_stack_trace_and_repeated_forgets_it(
    door: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = [*TINY, "-m", "seed=1", "trainer.max_epochs=0", f"hydra.sweep.dir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(DigitScenes, "__len__", lambda _: 1 // 0)
        with pytest.raises(SystemExit):
            door(train.main, *swept)
    lines = capsys.readouterr().err.strip().splitlines()
    assert "ZeroDivisionError" in lines[-1] and any("Traceback" in line for line in lines)
    (reason,) = tmp_path.rglob(REASON)
    assert "Traceback" in reason.read_text()
    door(train.main, *swept)
    assert not list(tmp_path.rglob(REASON)) and list(tmp_path.rglob("metrics.json"))


def test_a_sweep_has_a_folder_without_being_told_one(door: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    door(train.main, *TINY, "-m", "loss.margin=0.3,0.5", "trainer.max_epochs=0")
    (sweep,) = (tmp_path / "outputs" / "digits").iterdir()
    assert sorted(file.parent.name[:2] for file in sweep.rglob("metrics.json")) == ["0_", "1_"]


def test_failed_points_in_the_order_of_failing(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / REASON).write_text(f"trace\nreason {name}\n")
        os.utime(tmp_path / name / REASON, (number, number))
    assert list(failed_points(tmp_path).items()) == [("b", "reason b"), ("a", "reason a")]
