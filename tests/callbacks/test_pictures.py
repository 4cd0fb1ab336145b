from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import train


def test_sheets_of_validation_images(
    command_line: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line(
        train.main,
        "experiment=digits",
        "debug=quick",
        "data.val_scenes=3",
        "data.test_scenes=3",
        "callbacks.pictures.images=2",
        "callbacks.limits.images=2",
        f"hydra.run.dir={tmp_path}",
    )
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == ["recall-AR.png", "recall-AR_voc.png", "reliability.png", "val-1.png", "val-2.png"]
    assert Image.open(tmp_path / "pictures" / "val-1.png").width > 800
    assert "limits most: " in capsys.readouterr().out
