from collections.abc import Callable
from pathlib import Path

import pytest
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


def test_a_negative_number_of_images_is_refused() -> None:
    with pytest.raises(UserError, match="callbacks.limits.images must be an integer >= 0, got -1"):
        LimitingStage(-1)
