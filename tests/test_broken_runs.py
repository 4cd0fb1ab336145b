"""Configs and checkpoints with bytes changed, cut or added: read, or refused in one line, never a stack trace."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rpe.errors import UserError
from rpe.run.folder import read_checkpoint
from rpe.run_files import read_run

WEIGHTS = Path(__file__).parent.parent / "weights" / "digits"

CONFIGS, CHECKPOINTS = 2000, 1000


def broken(content: bytes, random: np.random.Generator) -> bytes:
    """Change some bytes, most of them near the start or the end, where the structure lies; or cut the file."""
    if random.random() < 0.2:
        return content[: random.integers(len(content))]
    changed = bytearray(content)
    for _ in range(random.integers(1, 6)):
        near = random.integers(min(len(changed), 4000))
        place = random.choice([near, len(changed) - 1 - near, random.integers(len(changed))])
        changed[place] = random.integers(256)
    return bytes(changed)


@pytest.mark.slow
def test_broken_configs(tmp_path: Path) -> None:
    content, refused = (WEIGHTS / "config.yaml").read_bytes(), 0
    for number in range(CONFIGS):
        (tmp_path / "config.yaml").write_bytes(broken(content, np.random.default_rng(number)))
        try:
            read_run(str(tmp_path))
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < CONFIGS


@pytest.mark.slow
def test_broken_checkpoints(tmp_path: Path) -> None:
    file, refused = tmp_path / "best.ckpt", 0
    shutil.copy(WEIGHTS / "checkpoints" / "best.ckpt", file)
    content = file.read_bytes()
    for number in range(CHECKPOINTS):
        file.write_bytes(broken(content, np.random.default_rng(number)))
        try:
            read_checkpoint(file)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < CHECKPOINTS
