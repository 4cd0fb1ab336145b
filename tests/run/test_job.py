"""What a job is called in wandb."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from rpe.run.job import job, name_of, sweep_of, tags_of


def hydra(mode: RunMode, sweep: str, *overrides: str) -> SimpleNamespace:
    return SimpleNamespace(
        mode=mode,
        sweep=SimpleNamespace(dir=sweep),
        overrides=SimpleNamespace(task=list(overrides)),
        runtime=SimpleNamespace(output_dir="outputs/digits/2026-01-01", choices={"experiment": "digits", "task": "instance"}),
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [("outputs/digits/sweep/margin", "digits-margin"), ("/out/digits/2026", "digits-2026"), ("margin", "margin"), ("/" + "a" * 300, "a" * 128)],
)
def test_a_sweep_is_called_by_its_folder(folder: str, name: str) -> None:
    assert sweep_of(hydra(RunMode.MULTIRUN, folder)) == name and sweep_of(hydra(RunMode.RUN, folder)) is None


def test_names(tmp_path: Path) -> None:
    said = ["experiment=digits", "+logger.wandb.entity=me", "resume=a", "seed=1", "loss.margin=0.3"]
    assert name_of(hydra(RunMode.RUN, str(tmp_path), *said)) == "seed=1 loss.margin=0.3"
    assert name_of(hydra(RunMode.RUN, str(tmp_path), "experiment=digits")) == "2026-01-01"
    assert name_of(hydra(RunMode.MULTIRUN, str(tmp_path), *said)) == "seed=1 loss.margin=0.3", "no multirun.yaml tells what is swept"
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['experiment=digits,coco', seed=1, 'loss.margin=0.3,0.5']}}")
    assert name_of(hydra(RunMode.MULTIRUN, str(tmp_path), *said[:1], *said[3:])) == "experiment=digits loss.margin=0.3"
    assert len(name_of(hydra(RunMode.RUN, "", "a=" + "b" * 200))) == 128


def test_tags_are_short_and_each_is_there_once() -> None:
    assert tags_of(hydra(RunMode.RUN, "a/b"), "digits") == ["digits", "instance"]
    assert tags_of(hydra(RunMode.MULTIRUN, "a/b"), "c" * 70) == ["digits", "instance", "c" * 64, "a-b"]


def test_without_hydra_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    config = OmegaConf.create({"a": "${rpe.job:group}", "b": "${rpe.job:name}", "c": "${rpe.job:tags}"})
    OmegaConf.register_new_resolver("rpe.job", job, replace=True)
    assert OmegaConf.to_container(config, resolve=True) == {"a": None, "b": None, "c": []}
