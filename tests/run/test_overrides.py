"""Arguments as a user types them, prepared for Hydra."""

import importlib.util
from pathlib import Path

import pytest

from rpe.run.overrides import prepare_overrides, quote_paths, replace_null_groups, value_of
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
        ("loss.pairwise.margin=0.5", "loss.pairwise.margin=0.5"),
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
    assert quote_paths(argument, multirun=False) == wanted == quote_paths(wanted, multirun=False)


def test_a_folder_whose_name_looks_like_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[set]").mkdir()
    assert (
        quote_paths("images=[set]", multirun=False) == "images='[set]'"
        and quote_paths("images=[other]", multirun=False) == "images=[other]"
    )


def test_commas_separate_the_values_of_a_sweep() -> None:
    assert quote_paths("init_from=a b,c=d", multirun=True) == "init_from='a b','c=d'"
    assert quote_paths("init_from=choice(a,b)", multirun=True) == "init_from=choice(a,b)"


def test_the_last_argument_counts() -> None:
    assert (
        value_of(["run=a", "run='b c'", "x=1"], "run") == "b c"
        and value_of(["run=null"], "run") is None
        and value_of([], "run") is None
    )


def test_a_null_group_is_its_option_none_or_left_out() -> None:
    assert replace_null_groups(["logger=null", "ranker=none", "clipping=null"]) == [
        "logger=none",
        "ranker=none",
        "clipping=none",
    ]
    assert replace_null_groups(["experiment=digits", "experiment=null", "debug=none", "seed=null"]) == [
        "seed=null"
    ]
    assert replace_null_groups(["-m", "ranker=null,random"]) == ["-m", "ranker=none,random"]
    with pytest.raises(
        UserError, match="data must be one of bsds, coco, digits, dsb2018, folder, nuclei, voc, got null"
    ):
        replace_null_groups(["data=null"])


def test_a_sweep_of_trainings_is_given_its_folder_and_one_of_scorings_is_not() -> None:
    assert prepare_overrides(["-m", "loss.pairwise.margin=0.1,0.2", "experiment=digits"])[-1].startswith(
        "hydra.sweep.dir='outputs/digits/sweep/"
    )
    assert (
        prepare_overrides(["sweep=margin", "-m", "experiment=nuclei"])[-1]
        == "hydra.sweep.dir='outputs/nuclei/sweep/margin'"
    )
    assert prepare_overrides(["-m", "predictions=a,b"])[-1] == "predictions='a','b'"
    assert prepare_overrides(["-m", "seed=1,2", "hydra.sweep.dir=x"])[-1] == "hydra.sweep.dir='x'"
    with pytest.raises(UserError, match="sweep must be used with -m, got margin without. Add -m"):
        prepare_overrides(["sweep=margin"])


def test_a_launcher_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_overrides(["-m", "seed=1,2", "launcher=joblib"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match=r"launcher must be installed, got submitit_local. Install its extra: pip install 'rpe.submitit.'",
    ):
        prepare_overrides(["-m", "seed=1,2", "launcher=submitit_local"])


def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_overrides(["experiment=digits", "logger=[csv,wandb,mlflow]"])
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else found(name))
    prepare_overrides(["experiment=digits", "logger=[csv,wandb]"])
    with pytest.raises(
        UserError, match=r"logger must be installed, got mlflow. Install its extra: pip install 'rpe.mlflow.'"
    ):
        prepare_overrides(["experiment=digits", "logger=[wandb,mlflow]"])
