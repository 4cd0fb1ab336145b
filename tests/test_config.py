"""Every shipped YAML composes and builds; every experiment trains and validates a step."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bsds_miniature import write_bsds
from hydra import compose, initialize_config_dir
from miniature import write_miniature
from miniature_voc import write_sbd, write_voc
from omegaconf import OmegaConf

import rpe.run
import train
from rpe.run.building import build_named, check_config

CONF = Path(__file__).parent.parent / "conf"
BUILT = ["backbone", "embedding", "grouping", "head", "loss", "proposal", "data"]
OPTIONS = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]

OF_CLASSES = {("task", "semantic"), ("loss", "semantic"), ("head", "semantic")}
OF_BOUNDARIES = {("task", "boundary"), ("loss", "boundary"), ("head", "boundary"), ("detection", "single")}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_builds(
    group: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RPE_DATA_DIR", str(tmp_path))
    if (group, option) == ("launcher", "ray") and importlib.util.find_spec(
        "hydra_plugins.hydra_ray_launcher"
    ) is None:
        pytest.skip("the extra ray is not installed: it does not fit constraints.txt")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        # the digits are made as training wants them and know no augmentation
        experiment = (
            "bsds"
            if (group, option) in OF_BOUNDARIES
            else "digits_semantic"
            if (group, option) in OF_CLASSES
            else "digits"
        )
        beside = (
            ["data=coco"]
            if group == "augment"
            else [f"experiment={experiment}"]
            if group != "experiment"
            else []
        )
        config = compose("train", [f"{group}={option}", *beside])
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        task = rpe.run.build_task(config)
        assert rpe.run.build_data(config).name
        optimizer = task.optimizer(task)
        assert isinstance(optimizer, torch.optim.Optimizer) and 0 <= task.schedule(0.5) <= 1
        if group == "logger":
            assert len(build_named(config, "logger", save_dir=str(tmp_path))) == len(config.logger)


def test_the_authors_experiment_on_voc_draws_the_authors_pixels() -> None:
    """All 230,400 of a crop would be minutes a step on a CPU."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=voc_paper"])
    assert (config.loss.pairwise.num_pixels, config.loss.pairwise.sampling, config.data.crop) == (
        4000,
        "uniform",
        480,
    )


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_takes_another_backbone(experiment: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", "backbone=timm", "backbone.model=resnet10t"])
        check_config(config)
        assert type(rpe.run.build_task(config).get_submodule("model").backbone).__name__ == "TimmPyramid"


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_trains_and_validates(
    experiment: str, command_line: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RPE_DATA_DIR", str(tmp_path / "data"))
    write_miniature(tmp_path / "data" / "coco")
    write_miniature(tmp_path / "data" / "nuclei", years="")
    write_sbd(write_voc(tmp_path / "data"))
    write_bsds(tmp_path / "data" / "BSR" / "BSDS500" / "data")
    small = [
        "data.eval_batch_size=1",
        "trainer.limit_train_batches=1",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
        "data.batch_size=2",
        "data.num_workers=0",
        "callbacks.pictures=null",
    ]
    if not experiment.startswith("digits"):
        small.append("data.crop=32")
    if experiment.startswith("voc_"):
        small += ["backbone=timm", "backbone.model=resnet10t"]
    command_line(
        train.main,
        f"experiment={experiment}",
        "trainer.max_epochs=1",
        f"hydra.run.dir={tmp_path / 'run'}",
        *small,
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]["images"] >= 1
