"""Commands called in-process, dense references, and a miniature of COCO's layout."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest
import torch
from miniature import write_miniature

import rpe.run
from rpe.errors import PRINTED


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    PRINTED.clear()
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the checks of shapes and types, as for a user of the plain functions."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


CommandLine = Callable[..., None]


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Return a function: `command_line(train.main, "experiment=digits")` runs `python train.py experiment=digits`."""

    def run(main: Callable[[], None], *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["command.py", *arguments])
        rpe.run.run_command(main)

    return run


@pytest.fixture
def refused(command_line: CommandLine, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return the one line that a command prints for a user's error; its exit status is 1, without a stack trace."""

    def run(main: Callable[[], None], *arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            command_line(main, *arguments)
        assert stop.value.code == 1
        lines = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in "".join(lines), lines
        return errors[0]

    return run


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    return write_miniature(tmp_path / "mini")


def clustered(pixels: int, dim: int, groups: int = 12, seed: int = 0) -> torch.Tensor:
    """Points around `groups` random centres, spread 0.4 / sqrt(dim) a coordinate."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(groups, dim, generator=generator), dim=-1)
    member = torch.randint(groups, (pixels,), generator=generator)
    return torch.nn.functional.normalize(
        centres[member] + 0.4 / dim**0.5 * torch.randn(pixels, dim, generator=generator), dim=-1
    )


@pytest.fixture(name="clustered")
def clustered_fixture() -> Callable[..., torch.Tensor]:
    return clustered
