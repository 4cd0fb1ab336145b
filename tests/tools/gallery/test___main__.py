"""The command as a user types it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent


def test_a_slip_is_one_line_and_status_1() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rpe.tools.gallery", "run=nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("error: ")
        and done.stderr.count("\n") == 1
        and "nowhere" in done.stderr
    ), done.stderr


def test_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rpe.tools.gallery", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "python -m rpe.tools.gallery" in done.stdout
