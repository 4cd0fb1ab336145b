"""Held by another process: waited for, or refused; and free again however that process ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rpe.run.lock import hold_folder, hold_gpu
from rpe.structures import UserError

HOLDER = """
import sys, time
from pathlib import Path
from rpe.run.lock import hold_gpu, hold_folder
what, folder = sys.argv[1], Path(sys.argv[2])
with hold_folder(folder, None) if what == "folder" else hold_gpu(["a", "b"], folder) as index:
    print(index, flush=True)
    time.sleep(60)
"""


def holder(what: str, folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, what, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_folder_is_held_until_its_holder_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, _ = holder("folder", tmp_path)
    try:
        with (
            pytest.raises(UserError, match="run folder must be free, got .*, which another process writes"),
            hold_folder(tmp_path, None),
        ):
            pass
        started = time.monotonic()
        killer = subprocess.Popen(
            [sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({other.pid}, 9)"]
        )
        with hold_folder(tmp_path, "the job is trained"):
            assert time.monotonic() - started > 0.5
        assert capsys.readouterr().out == "the job is trained: waiting for it\n"
        killer.wait()
        with hold_folder(tmp_path, None):
            assert list(tmp_path.iterdir()) == [], "nothing is left in it"
    finally:
        other.kill()


def test_each_job_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    first, one = holder("gpu", tmp_path)
    second, two = holder("gpu", tmp_path)
    try:
        assert {one, two} == {"0", "1"}
        with hold_gpu(["a", "b", "c"], tmp_path) as index:
            assert index == 2
        (first if one == "1" else second).kill()
        with hold_gpu(["a", "b"], tmp_path) as index:
            assert index == 1
    finally:
        for process in (first, second):
            process.kill()
