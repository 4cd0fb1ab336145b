import re
from collections.abc import Callable
from pathlib import Path

import pytest

import train


def test_plain_lines_with_the_time_left_and_one_per_epoch(
    command_line: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line(
        train.main,
        "experiment=digits",
        "debug=quick",
        "data.val_scenes=3",
        "data.test_scenes=3",
        "callbacks.progress.every_seconds=0",
        "trainer.max_epochs=2",
        f"hydra.run.dir={tmp_path}",
    )
    text = capsys.readouterr().out
    assert re.search(r"^epoch 1/2 batch 1/2, \d+:\d\d left$", text, re.MULTILINE)
    assert len(re.findall(r"^epoch \d/2  loss \d+\.\d+  AR@10 ", text, re.MULTILINE)) == 2
    assert "AR@10" in text.split("digits test")[1] and str(tmp_path) in text
