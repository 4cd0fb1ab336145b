"""Arguments as a user types them, and the line between slips and faults."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import HydraException

import evaluate
import predict
import train
from rpe.data.digits import DigitScenes
from rpe.run.cli import (
    evaluation_folder,
    named,
    prediction_folder,
    prepared,
    quoted,
    said,
    without_null_groups,
)
from rpe.run.cli import one_line as line_of
from rpe.structures import UserError


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("run=outputs/a=b c", "run='outputs/a=b c'"),
        ("run=123", "run='123'"),
        ("hydra.run.dir=/tmp/it's (new)", r"hydra.run.dir='/tmp/it\'s (new)'"),
        ("run='a=b'", "run='a=b'"),
        ("run=null", "run=null"),
        ("run=", "run="),
        ("hydra.run.dir=${x}/y", "hydra.run.dir=${x}/y"),
        ("loss.margin=0.5", "loss.margin=0.5"),
        ("init_from=a,b", "init_from='a,b'"),
        ("-m", "-m"),
        ("images=my scans/**/*.png", "images='my scans/**/*.png'"),
        ("images=[a.png,b.png]", "images=[a.png,b.png]"),
        ("images=[a.png, scans/b.png]", "images=[a.png,scans/b.png]"),
        ("images=[photo [1].png,photo (2).png]", "images=['photo [1].png','photo (2).png']"),
        ("images=[a=b.png,it's.png]", "images=[a=b.png,it's.png]"),
        ("images=[{1}.png,$x.png,2:3.png]", "images=['{1}.png','$x.png','2:3.png']"),
        ("images=['photo [1].png',b.png]", "images=['photo [1].png',b.png]"),
        ("images=[1].png", "images='[1].png'"),
        ("images=photo[1].png", "images='photo[1].png'"),
        ("images=[ab]*.png", "images='[ab]*.png'"),
        ("predictions=[x].json", "predictions='[x].json'"),
        ("images=[" + "a b.png," * 900 + "c.png]", "images=[" + "'a b.png'," * 900 + "c.png]"),
    ],
)
def test_paths_are_quoted(argument: str, wanted: str) -> None:
    assert quoted(argument, sweeping=False) == wanted == quoted(wanted, sweeping=False)


def test_a_folder_whose_name_looks_like_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[set]").mkdir()
    assert (
        quoted("images=[set]", sweeping=False) == "images='[set]'"
        and quoted("images=[other]", sweeping=False) == "images=[other]"
    )


def test_what_hydra_cannot_parse_is_told_with_the_remedy(refused: Callable[..., str]) -> None:
    for argument in ("images=['a.png',b(1).png]", "images=['a.png',[1].png]", "data.name=a(b"):
        line = refused(predict.main, "run=weights/nuclei", argument)
        assert "quote each name that holds brackets" in line and "hydra.cc" not in line, line


def test_commas_part_the_values_of_a_sweep() -> None:
    assert quoted("init_from=a b,c=d", sweeping=True) == "init_from='a b','c=d'"
    assert quoted("init_from=choice(a,b)", sweeping=True) == "init_from=choice(a,b)"


def test_named_takes_the_last() -> None:
    assert (
        named(["run=a", "run='b c'", "x=1"], "run") == "b c"
        and named(["run=null"], "run") is None
        and named([], "run") is None
    )


def test_slips_are_said_and_faults_are_not() -> None:
    assert said(UserError("a")) == "a" and said(HydraException("b\nfull_key: x")) == "b"
    assert (
        said(PermissionError(13, "Permission denied", "/x"))
        == "/x: Permission denied: name a folder that can be written, such as hydra.run.dir=outputs/mine"
    )
    for fault in (
        FileNotFoundError(2, "No such file", "/x"),
        ValueError("x"),
        TypeError("x"),
        ZeroDivisionError("x"),
        AssertionError("x"),
        KeyError("x"),
    ):
        assert said(fault) is None


def test_a_fault_of_ours_keeps_its_stack_trace(
    door: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(DigitScenes, "__len__", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        door(train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'run'}", "trainer.max_epochs=1")


def test_one_line_strips_what_a_worker_or_a_resolver_adds() -> None:
    wrapped = UserError(
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback ...\nrpe.errors.UserError: image x does not decode\n"
    )
    assert line_of(wrapped) == "image x does not decode"


def test_a_null_group_is_its_option_none_or_left_out() -> None:
    assert without_null_groups(["logger=null", "ranker=none", "clipping=null"]) == [
        "logger=none",
        "ranker=none",
        "clipping=none",
    ]
    assert without_null_groups(["experiment=digits", "experiment=null", "debug=none", "seed=null"]) == [
        "seed=null"
    ]
    assert without_null_groups(["-m", "ranker=null,random"]) == ["-m", "ranker=none,random"]
    with pytest.raises(
        UserError, match="data must be one of bsds, coco, digits, folder, nuclei, voc, got null"
    ):
        without_null_groups(["data=null"])


def test_folders(tmp_path: Path) -> None:
    assert (
        prediction_folder(None, "now") == "outputs/predict/now" and prediction_folder("here", "now") == "here"
    )
    assert prediction_folder("", "now") == "outputs/predict/now", "not the current folder"
    assert evaluation_folder(None, "coco", "val", "now") == "outputs/evaluate/now"
    (tmp_path / "config.yaml").write_text("{}")
    assert evaluation_folder(str(tmp_path), "coco", "val", "now") == str(tmp_path / "evaluation" / "coco-val")


@pytest.mark.parametrize(
    ("main", "said", "unsaid"),
    [
        (train.main, ["resume=<run folder>", "experiment: bsds, coco"], []),
        (evaluate.main, ["predictions=<results.json>"], ["accumulation:"]),
    ],
)
def test_help_shows_commands(
    main: Callable[[], None],
    said: list[str],
    unsaid: list[str],
    door: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        door(main, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(line in text for line in said) and not any(line in text for line in unsaid)


def test_a_reader_that_leaves_early_is_no_fault(
    door: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    def gone() -> None:
        raise BrokenPipeError

    with pytest.raises(SystemExit):
        door(gone)
    assert "Traceback" not in capfd.readouterr().err


def test_a_sweep_of_trainings_is_given_its_folder_and_one_of_scorings_is_not() -> None:
    assert prepared(["-m", "loss.margin=0.1,0.2", "experiment=digits"])[-1].startswith(
        "hydra.sweep.dir='outputs/digits/sweep/"
    )
    assert (
        prepared(["sweep=margin", "-m", "experiment=nuclei"])[-1]
        == "hydra.sweep.dir='outputs/nuclei/sweep/margin'"
    )
    assert prepared(["-m", "predictions=a,b"])[-1] == "predictions='a','b'"
    assert prepared(["-m", "seed=1,2", "hydra.sweep.dir=x"])[-1] == "hydra.sweep.dir='x'"
    with pytest.raises(UserError, match="sweep names several points: add -m"):
        prepared(["sweep=margin"])


def test_a_launcher_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(["-m", "seed=1,2", "launcher=joblib"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match=r"launcher=submitit_local needs an extra of this package: pip install 'rpe.submitit.'",
    ):
        prepared(["-m", "seed=1,2", "launcher=submitit_local"])
