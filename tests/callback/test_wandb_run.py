from pathlib import Path

import pytest
import wandb

from rpe.callback.wandb_run import WandbRun
from rpe.structures import InputError


def test_the_id_is_written_before_the_run_opens_and_read_again(tmp_path: Path) -> None:
    first = WandbRun(str(tmp_path), "rpe", "disabled", tags=["a"])
    assert not (tmp_path / "wandb_id").exists(), "a run that is refused leaves none"
    first.log_hyperparams({"a": 1})
    wandb.finish()
    again = WandbRun(str(tmp_path), "rpe", "disabled")
    assert again.version == first._id == (tmp_path / "wandb_id").read_text().strip()
    assert again._wandb_init["resume"] == "allow" and first._wandb_init["tags"] == ["a"]


def test_unknown_modes_and_unknown_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="logger.wandb.mode 'no' is unknown: choose offline, online, disabled"):
        WandbRun(str(tmp_path), "rpe", "no")

    def unknown(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", unknown)
    with pytest.raises(InputError, match=r"logger.wandb: No API key configured. Use .*: run `wandb login` first"):
        WandbRun(str(tmp_path), "rpe", "online").log_hyperparams({})
