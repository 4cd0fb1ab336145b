"""What a job is called in wandb."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rpe.run.run_name import list_tags, resolve_run_name, run_name, sweep_title
from rpe.run.sweep_record import record_jobs


def hydra(folder: Path, *overrides: str) -> SimpleNamespace:
    return SimpleNamespace(
        overrides=SimpleNamespace(task=list(overrides)),
        runtime=SimpleNamespace(output_dir=str(folder), choices={"experiment": "digits", "task": "instance"}),
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [("digits/sweep/margin", "digits-margin"), ("digits/2026", "digits-2026"), ("a/" + "b" * 200, "b" * 128)],
)
def test_a_sweep_is_called_by_its_folder(folder: str, name: str, tmp_path: Path) -> None:
    record_jobs(tmp_path / folder, "command", {"seed-1": ["seed=1"]})
    assert sweep_title(hydra(tmp_path / folder / "seed-1")) == name
    assert (
        sweep_title(hydra(tmp_path / folder / "beside")) is None
        and sweep_title(hydra(tmp_path / "alone")) is None
    )


def test_names(tmp_path: Path) -> None:
    overrides = [
        "experiment=digits",
        "+logger.wandb.entity=me",
        "resume=a",
        "seed=1",
        "loss.pairwise.margin=0.3",
    ]
    assert run_name(hydra(tmp_path / "2026-01-01", *overrides)) == "seed=1 loss.pairwise.margin=0.3"
    assert run_name(hydra(tmp_path / "2026-01-01", "experiment=digits")) == "2026-01-01"
    record_jobs(
        tmp_path,
        "command",
        {"a": ["seed=1", "loss.pairwise.margin=0.3"], "b": ["seed=1", "loss.pairwise.margin=0.5"]},
    )
    assert run_name(hydra(tmp_path / "a", *overrides)) == "loss.pairwise.margin=0.3", (
        "what all points share is no part of it"
    )
    assert len(run_name(hydra(tmp_path / "2026", "a=" + "b" * 200))) == 128


def test_tags_are_short_and_each_is_there_once(tmp_path: Path) -> None:
    record_jobs(tmp_path / "digits" / "sweep" / "margin", "command", {"a": ["seed=1"]})
    assert list_tags(hydra(tmp_path), "digits") == ["digits", "instance"]
    assert list_tags(hydra(tmp_path / "digits" / "sweep" / "margin" / "a"), "c" * 70) == [
        "digits",
        "instance",
        "c" * 64,
        "digits-margin",
    ]


def test_without_hydra_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    config = OmegaConf.create({"a": "${rpe.job:group}", "b": "${rpe.job:name}", "c": "${rpe.job:tags}"})
    OmegaConf.register_new_resolver("rpe.job", resolve_run_name, replace=True)
    assert OmegaConf.to_container(config, resolve=True) == {"a": None, "b": None, "c": []}
