from pathlib import Path

import pytest
import torch

from rpe.run.folder import (
    changed_at_resume,
    checkpoint_of,
    load_weights,
    provenance,
    read_run,
    remember_changes,
    run_folder,
    write_figures,
    write_whole,
)
from rpe.structures import InputError


def test_a_run_is_its_config_and_what_resuming_changed(tmp_path: Path) -> None:
    written = "trainer: {max_epochs: 1, devices: 1}\nlogger: {csv: {a: 1}}\n"
    (tmp_path / "config.yaml").write_text(written)
    assert changed_at_resume(tmp_path) == {}
    remember_changes(tmp_path, {"trainer.max_epochs": 2, "logger": {"wandb": {"mode": "online"}}})
    remember_changes(tmp_path, {"trainer.max_epochs": 3})
    remember_changes(tmp_path, {})
    assert read_run(str(tmp_path)) == {"trainer": {"max_epochs": 3, "devices": 1}, "logger": {"wandb": {"mode": "online"}}}
    assert (tmp_path / "config.yaml").read_text() == written


def test_folders_and_configs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run folder .*nowhere does not exist"):
        run_folder(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="holds no config.yaml"):
        run_folder(str(tmp_path))
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match="config.yaml is not YAML"):
        read_run(str(tmp_path))
    (tmp_path / "config.yaml").write_text("text")
    with pytest.raises(InputError, match="config.yaml holds no settings"):
        read_run(str(tmp_path))
    with pytest.raises(InputError, match=r"best.ckpt does not exist: name a run folder that has trained"):
        checkpoint_of(str(tmp_path))


def test_weights(tmp_path: Path) -> None:
    one = torch.nn.Linear(2, 3)
    torch.save({"state_dict": one.state_dict(), "epoch": 4}, tmp_path / "a.ckpt")
    other = torch.nn.Linear(2, 3)
    assert load_weights(other, tmp_path / "a.ckpt")["epoch"] == 4 and torch.equal(one.weight, other.weight)
    with pytest.raises(InputError, match=r"is of another model: weight is \[3, 2\] there and \[3, 5\] here"):
        load_weights(torch.nn.Linear(5, 3), tmp_path / "a.ckpt")
    for content in ({"state_dict": 5}, [1], {}):
        torch.save(content, tmp_path / "b.ckpt")
        with pytest.raises(InputError, match="b.ckpt is not a checkpoint of this program"):
            load_weights(other, tmp_path / "b.ckpt")


def test_write_whole_leaves_no_half(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text" and len(list(tmp_path.iterdir())) == 1


def test_figures_that_are_no_number_are_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_figures(tmp_path, {"AR@10": 0.123456, "images": 5.0, "none": float("nan")}, provenance({"data": {}}, "val", 0.0), "digits val")
    text = capsys.readouterr().out
    assert "0.1235" in text and "│ 5 " in text and "nan" in text
    assert len(provenance({"data": {}}, "val", 0.0)["commit"]) >= 7
