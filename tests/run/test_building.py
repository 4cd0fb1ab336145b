"""Building knows no task: another class brings its parts, its data and its figure."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from rpe.data.module import SplitData
from rpe.run.building import (
    build,
    build_named,
    build_task,
    build_trainer,
    check_config,
    check_pair,
    task_class,
)
from rpe.run.train import build_training
from rpe.structures import UserError
from rpe.task.base import Task

CONF = Path(__file__).parent.parent.parent / "conf"


class Edges(Task):
    """A task without a model, with a loss alone and a number of its own."""

    monitor, shown, takes = "val/ODS", ("ODS",), SplitData

    def __init__(self, loss: Any, optimizer: Any, schedule: Any, thin: int) -> None:
        super().__init__(optimizer, schedule)
        self.loss, self.thin = loss, thin


class Broken:
    """A class of ours with a fault."""

    def __init__(self, depth: int) -> None:
        raise TypeError(f"our fault {depth}")


Broken.__module__ = "rpe.made_up"


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["experiment=digits", *overrides])


def of_class(group: str, target: str, **options: Any) -> DictConfig:
    whole = config()
    OmegaConf.set_struct(whole, False)
    whole[group] = {"_target_": f"{__name__}.{target}", **options}
    return whole


def test_another_task_is_built_of_what_its_constructor_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpe.run.building.target_of", found(Edges, "task"))
    whole = of_class("task", "Edges", thin=3)
    task = build_task_of(whole, monkeypatch)
    assert (
        isinstance(task, Edges)
        and task.thin == 3
        and task.loss.pairwise.margin == 0.5
        and task.schedule(1.0) == pytest.approx(0.001)
    )
    assert task_class(whole).monitor == "val/ODS"
    trainer = build_training(whole, tmp_path, None)
    assert [callback.monitor for callback in trainer.checkpoint_callbacks] == ["val/ODS", None]


def found(target: Any, path: str) -> Any:
    """Classes of tests cannot be imported by name; all others are found as ever."""
    from rpe.run import building

    ever = building.target_of
    return lambda whole, where: target if where == path else ever(whole, where)


def build_task_of(whole: DictConfig, monkeypatch: pytest.MonkeyPatch) -> Task:
    from rpe.run import building

    ever = building.instantiate

    def by_name(options: Any, **given: Any) -> Any:
        if options["_target_"].endswith(".Edges"):
            kept = {name: value for name, value in options.items() if not name.startswith("_")}
            given.pop("_convert_")
            return Edges(**kept, **given)
        return ever(options, **given)

    monkeypatch.setattr(building, "instantiate", by_name)
    return build_task(whole)


def test_a_fault_of_ours_stays_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from rpe.run import building

    with pytest.raises(TypeError, match="our fault 3"):
        building.call_constructor(lambda: Broken(3), "backbone", Broken)
    with pytest.raises(UserError, match="trainer: no such thing"):
        building.call_constructor(refusing, "trainer", torch.nn.Linear)
    with pytest.raises(ZeroDivisionError):
        building.call_constructor(lambda: 1 // 0, "trainer", torch.nn.Linear)


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
