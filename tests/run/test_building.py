"""Building knows no task: another class brings its parts, its data and its figure."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from made_classes import Broken, Edges
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import SplitData
from rpe.run.building import (
    build,
    build_named,
    build_task,
    build_trainer,
    call_constructor,
    check_config,
    check_pair,
    task_class,
)
from rpe.run.train import build_training
from rpe.structures import UserError

CONF = Path(__file__).parent.parent.parent / "conf"


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["experiment=digits", *overrides])


def of_class(group: str, target: str, **options: Any) -> DictConfig:
    whole = config()
    OmegaConf.set_struct(whole, False)
    whole[group] = {"_target_": f"made_classes.{target}", **options}
    return whole


def test_another_task_is_built_of_what_its_constructor_names(tmp_path: Path) -> None:
    whole = of_class("task", "Edges", thin=3)
    task = build_task(whole)
    assert (
        isinstance(task, Edges)
        and task.thin == 3
        and task.loss.pairwise.margin == 0.5
        and task.schedule(1.0) == pytest.approx(0.001)
    )
    assert task_class(whole).monitor == "val/ODS"
    trainer = build_training(whole, tmp_path, None)
    assert [callback.monitor for callback in trainer.checkpoint_callbacks] == ["val/ODS", None]


def test_a_fault_of_ours_stays_a_fault() -> None:
    with pytest.raises(TypeError, match="our fault 3"):
        call_constructor(lambda: Broken(3), "backbone", Broken)
    with pytest.raises(UserError, match="trainer: no such thing"):
        call_constructor(refusing, "trainer", torch.nn.Linear)
    with pytest.raises(ZeroDivisionError):
        call_constructor(lambda: 1 // 0, "trainer", torch.nn.Linear)


def refusing() -> None:
    raise ValueError("no such thing\nand more")


def test_values_that_stand_elsewhere_are_named_where_they_stand() -> None:
    with pytest.raises(UserError, match="^loss.pairwise.margin must be a number"):
        check_config(config("loss.pairwise.margin=abc"))
    with pytest.raises(UserError, match="^data.seed must be an integer"):
        check_config(config("data.seed=abc"))


def test_entries_that_are_null_are_left_out() -> None:
    assert [
        type(callback).__name__ for callback in build_named(config("callbacks.pictures=null"), "callbacks")
    ] == [
        "Progress",
        "GradientNorm",
        "CollapseWatch",
        "LimitingStage",
    ]
    with pytest.raises(UserError, match="callbacks.pictures.images must have a value, got none"):
        build(config("~callbacks.pictures.images"), "callbacks.pictures")


def test_the_trainer_is_what_the_groups_say(tmp_path: Path) -> None:
    trainer = build_trainer(
        config("precision=bf16", "clipping=value", "accumulation=four", "trainer.accelerator=cpu"),
        tmp_path,
        [],
        [],
    )
    assert (trainer.precision, trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (
        "bf16-mixed",
        0.1,
        "value",
    )
    assert trainer.accumulate_grad_batches == 4 and trainer.default_root_dir == str(tmp_path)
    assert build_trainer(config("clipping=none"), tmp_path, [], []).gradient_clip_val is None


def test_data_of_another_kind_are_refused() -> None:
    from rpe.data.digits import Digits

    whole = config()
    data = build(whole, "data")
    check_pair(task_class(whole), data, whole)
    assert isinstance(data, Digits)
    with pytest.raises(
        UserError,
        match="data must be InstanceData for rpe.task.instance.InstanceTask, got other .SplitData.",
    ):
        check_pair(task_class(whole), SplitData("other", 1, 1, 0, 0), whole)
