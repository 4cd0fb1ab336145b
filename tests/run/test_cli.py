"""Commands run as a user runs them, and the folders that they write into."""

from collections.abc import Callable
from pathlib import Path

import pytest

import evaluate
import train
from rpe.data.digits import DigitScenes
from rpe.run.cli import evaluation_folder, prediction_folder


def test_a_fault_of_ours_keeps_its_stack_trace(
    command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(DigitScenes, "__len__", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        command_line(
            train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'run'}", "trainer.max_epochs=1"
        )


def test_folders(tmp_path: Path) -> None:
    assert (
        prediction_folder(None, "now") == "outputs/predict/now" and prediction_folder("here", "now") == "here"
    )
    assert prediction_folder("", "now") == "outputs/predict/now", "not the current folder"
    assert evaluation_folder(None, "coco", "val", "now") == "outputs/evaluate/now"
    (tmp_path / "config.yaml").write_text("{}")
    assert evaluation_folder(str(tmp_path), "coco", "val", "now") == str(tmp_path / "evaluation" / "coco-val")


@pytest.mark.parametrize(
    ("main", "shown", "hidden"),
    [
        (train.main, ["resume=<run folder>", "experiment: bsds, bsds_scratch, coco"], []),
        (evaluate.main, ["predictions=<results.json>"], ["accumulation:"]),
    ],
)
def test_help_shows_commands(
    main: Callable[[], None],
    shown: list[str],
    hidden: list[str],
    command_line: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line(main, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(line in text for line in shown) and not any(line in text for line in hidden)


def test_a_reader_that_leaves_early_is_no_fault(
    command_line: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    def gone() -> None:
        raise BrokenPipeError

    with pytest.raises(SystemExit):
        command_line(gone)
    assert "Traceback" not in capfd.readouterr().err
