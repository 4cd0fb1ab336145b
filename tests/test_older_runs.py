import importlib
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

import rpe.run
from rpe.older_runs import (
    ADDED,
    MOVED,
    OPTIONS,
    todays_override,
    todays_run,
    with_todays_keys,
    with_todays_targets,
    with_todays_weights,
)
from rpe.run_files import read_run
from rpe.segment import HeuristicRanker

ROOT = Path(__file__).parent.parent


def test_a_config_of_the_earlier_layout_is_read_as_one_of_today(tmp_path: Path) -> None:
    shipped = ROOT / "weights" / "photographs"
    text = (shipped / "config.yaml").read_text()
    for old, new in MOVED.items():
        text = re.sub(rf"_target_: {re.escape(new)}\.(\w+)$", rf"_target_: {old}.\1", text, flags=re.M)
    assert "rpe.proposal.LearnedRanker" in text and "rpe.backbone.TimmPyramid" in text
    (tmp_path / "config.yaml").write_text(text)
    assert read_run(str(tmp_path)) == read_run(str(shipped))
    (tmp_path / "config.yaml").write_text(
        "callback:\n  - {_target_: rpe.head.Objectness}\n  - {_target_: torch.nn.Linear}\n"
    )
    assert read_run(str(tmp_path))["callbacks"] == [
        {"_target_": "rpe.network.head.Objectness"},
        {"_target_": "torch.nn.Linear"},
    ]
    for module in MOVED.values():
        importlib.import_module(module)


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "weights").glob("*/config.yaml")), ids=lambda file: file.parent.name
)
def test_shipped_weights_have_every_option_of_today(folder: Path) -> None:
    config = OmegaConf.create(read_run(str(folder.parent)))
    rpe.run.build_task(OmegaConf.create(OmegaConf.to_container(config)))


def test_options_that_were_added_change_nothing_and_options_of_today_stay() -> None:
    old = {"_target_": "rpe.proposal.Proposer", "foreground": 0.3}
    assert with_todays_targets(old) == {
        "_target_": "rpe.segment.Proposer",
        "foreground_thresholds": [0.3],
        "views": 1,
    }
    loops = {"_target_": "rpe.grouping.MeanShift", "iterations": 3}
    assert with_todays_targets(loops | {"step": 1.0}) == loops
    assert with_todays_targets(loops | {"step": 0.5}) == loops | {"step": 0.5}, "refused where it is built"
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.5}
    assert with_todays_targets(optimizer) == {
        "_target_": "rpe.task.optimizer.sgd",
        "lr": 0.5,
        "encoder_scale": 1.0,
    }
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        today = OmegaConf.to_container(compose("train", ["experiment=voc"]), resolve=True)
    assert todays_run(today) == today
    for target in ADDED:
        module, _, name = target.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", ["rpe.proposal", "rpe.segment", "rpe.segment.ranker"])
def test_the_plain_ranker_of_earlier_runs_is_the_heuristic_one(module: str) -> None:
    ranker = with_todays_targets({"_target_": f"{module}.PlainRanker", "typical_area": 20.0})
    assert isinstance(instantiate(ranker, channels=4), HeuristicRanker) and ranker["typical_area"] == 20.0


def test_weights_are_found_where_ranker_and_detector_lay() -> None:
    state, average = (
        {"model.ranker.layers.0.bias": 1, "model.embedding.a": 2, "detector.classifier.b": 5},
        {"model.ranker.layers.0.bias": 3},
    )
    found = with_todays_weights({"epoch": 4, "state_dict": state, "current_model_state": average})
    assert (
        found["state_dict"]
        == {"proposal.ranker.layers.0.bias": 1, "model.embedding.a": 2, "model.classifier.b": 5}
        and found["epoch"] == 4
    )
    assert found["current_model_state"] == {"proposal.ranker.layers.0.bias": 3}
    assert list(found["state_dict"]) == [
        "proposal.ranker.layers.0.bias",
        "model.embedding.a",
        "model.classifier.b",
    ]
    assert with_todays_weights(found) == found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data.workers=0", "data.num_workers=0"),
        ("+data.stretch=[1,99.8]", "+data.percentile_range=[1,99.8]"),
        ("~callback.pictures", "~callbacks.pictures"),
        ("init=a=b", "init_from=a=b"),
        ("ranker=plain", "ranker=heuristic"),
        ("proposal.least_score=0,1", "proposal.score_threshold=0,1"),
        ("least_score=0", "score_threshold=0"),
        ("loss.margin=0.5", "loss.pairwise.margin=0.5"),
        ("loss.objectness_weight=0.5", "loss.objectness_weight=0.5"),
        ("-m", "-m"),
    ],
)
def test_commands_may_use_earlier_names(old: str, new: str) -> None:
    assert todays_override(old) == new and todays_override(new) == new


def test_every_name_of_today_is_an_option() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = [
            OmegaConf.to_container(compose("train", [f"experiment={name}", *more]), resolve=True)
            for name, more in (("bsds", []), ("voc", []), ("coco", ["data=folder", "data.root=x"]))
        ]
    for group, options in OPTIONS.items():
        nodes = [config.get(group) or {} for config in configs]
        keys = {key for node in nodes for key in node}
        keys |= {
            f"{key}.{name}"
            for node in nodes
            for key in node
            if isinstance(node[key], dict)
            for name in node[key]
        }
        assert set(options.values()) <= keys and not set(options) & keys


@pytest.mark.parametrize("loss", [None, "text", {"pairwise": 5}, {"pairwise": None}])
def test_a_loss_that_is_not_one_is_left_to_the_checks(loss: object) -> None:
    assert todays_run({"loss": loss}) == {"loss": loss}


def test_metrics_and_sweeps_of_earlier_runs_are_read() -> None:
    assert with_todays_keys({"figures": {"AR@10": 0.5}, "run": {}}) == {"metrics": {"AR@10": 0.5}, "run": {}}
    assert with_todays_keys({"points": {"a": {"figures": 1}}}) == {"jobs": {"a": {"figures": 1}}}
    today = {"metrics": {}, "jobs": {}}
    assert with_todays_keys(today) == today
