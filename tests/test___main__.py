"""The command `rpe`, as an installed package has it: from a wheel, in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny

from rpe.__main__ import COMMANDS, read_usage
from rpe.tools.packing import main as packing

ROOT = Path(__file__).parent.parent


def test_every_tool_that_runs_is_a_command() -> None:
    runs = re.compile(r"^if __name__ == .__main__.:", re.MULTILINE)
    files = [file for file in (ROOT / "rpe" / "tools").rglob("*.py") if runs.search(file.read_text())]
    assert {file.parent.name if file.stem == "__main__" else file.stem for file in files} == set(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import rpe"],
        ["train.py"],
        ["train.py", "--help"],
        ["evaluate.py", "--help"],
        ["predict.py", "--help"],
        ["-m", "rpe", "export", "--help"],
        ["-m", "rpe", "doctor", "--help"],
        ["-m", "rpe", "report", "--help"],
    ],
    ids=" ".join,
)
def test_help_comes_without_heavy_imports(arguments: list[str]) -> None:
    """Each of these packages takes a good part of a second, torch and Lightning several."""
    heavy = {
        "torch",
        "lightning",
        "timm",
        "torchvision",
        "scipy",
        "sklearn",
        "skimage",
        "matplotlib",
        "wandb",
        "numpy",
    }
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "rpe" in imported and not imported & heavy
    assert done.stdout or arguments[0] == "-c"


def test_the_usage_of_a_tool_is_read_as_it_would_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    read = {name: read_usage(name) for name in COMMANDS}
    assert {name for name, usage in read.items() if usage is None} == {
        "train",
        "evaluate",
        "predict",
        "calibrate",
        "download",
        "tune",
    }
    with pytest.raises(SystemExit):
        packing(["--help"])
    assert capsys.readouterr().out == f"{str(read['packing']).strip()}\n"


@pytest.mark.parametrize(
    "arguments", [["train", "--help"], ["train"], ["predict", "run=nowhere", "images=x"], ["report"]]
)
def test_the_command_names_itself(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rpe", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    shown = done.stdout + done.stderr
    assert shown and not re.search(r"train\.py|predict\.py|python -m", shown), shown[:300]


@pytest.mark.slow
def test_a_wheel_trains_and_predicts_in_an_empty_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source, site, empty = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    for name in ("rpe", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)],
        check=True,
    )
    (wheel,) = tmp_path.glob("rpe-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    empty.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def rpe(*arguments: str) -> str:
        done = subprocess.run(
            [str(site / "bin" / "rpe"), *arguments],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "experiment=nuclei" in rpe("train") and "packing" in rpe()
    rpe("train", *tiny(4, 2, 1), "debug=quick", "hydra.run.dir=run")
    assert {"metrics", "monitored", "run"} <= json.loads((empty / "run" / "metrics.json").read_text()).keys()
    rpe("predict", "run=run", "images=run/pictures", "output=found")
    assert (empty / "found" / "results.json").is_file() and sorted(path.name for path in empty.iterdir()) == [
        "found",
        "run",
    ]
