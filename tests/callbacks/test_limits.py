from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
from digits_task import make_task
from tiny import tiny

import train
from rpe.callbacks.limits import LimitingStage
from rpe.errors import UserError


@pytest.mark.parametrize("images", [0, 2])
def test_the_limiting_stage_is_named_after_the_test(
    images: int, command_line: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"callbacks.limits.images={images}", "callbacks.pictures=null", "trainer.max_epochs=1"]
    command_line(train.main, *tiny(4, 3, 1), *settings, f"hydra.run.dir={tmp_path}")
    lines = [line for line in capsys.readouterr().out.splitlines() if " limits most: " in line]
    assert len(lines) == (images > 0)
    assert all("AR@10 on 2 validation images is " in line for line in lines)


def test_images_that_hold_crowds_alone_have_no_limiting_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, data = make_task("data.val_scenes=2")
    dataset: Any = data.dataset("val")
    samples = [sample._replace(labels=-sample.labels.clamp(max=1)) for sample in (dataset[0], dataset[1])]
    monkeypatch.setattr(type(dataset), "__getitem__", lambda self, index: samples[index])
    monkeypatch.setattr(lightning.Trainer, "datamodule", data, raising=False)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    LimitingStage(2).on_test_end(trainer, task)
    assert capsys.readouterr().out == ""


def test_a_negative_number_of_images_is_refused() -> None:
    with pytest.raises(UserError, match="callbacks.limits.images must be an integer >= 0, got -1"):
        LimitingStage(-1)
