import subprocess
import sys
from pathlib import Path

import pytest

from rpe.structures import UserError
from rpe.tools.command import read_arguments, run_tool

ROOT = Path(__file__).parent.parent.parent
DEFAULTS = {"run": None, "sizes": [1, 2]}


def test_values_are_read_as_yaml_over_the_defaults() -> None:
    assert read_arguments(["run=outputs/a b", "sizes=[3, 4.5]"], DEFAULTS, "") == {
        "run": "outputs/a b",
        "sizes": [3, 4.5],
    }
    assert read_arguments(["run=a=b"], DEFAULTS, "") == {"run": "a=b", "sizes": [1, 2]}
    assert read_arguments([], DEFAULTS, "") == DEFAULTS


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("run", "arguments must be key=value, got 'run'. The keys are run, sizes"),
        ("rum=a", "keys must be one of run, sizes, got rum"),
        ("sizes=[1", "sizes must be YAML, got .1"),
    ],
)
def test_errors_are_named(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_arguments([argument], DEFAULTS, "")


def test_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        read_arguments(["run=a", "--help"], DEFAULTS, "\nhow to use it\n")
    assert stop.value.code == 0 and capsys.readouterr().out == "how to use it\n"


def test_an_error_is_one_line_and_a_status_is_handed_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "a=1"])

    def refuse(arguments: list[str]) -> None:
        raise UserError(f"{arguments[0]} is wrong")

    for main, status in ((refuse, 1), (lambda _: 3, 3), (lambda _: None, 0)):
        with pytest.raises(SystemExit) as stop:
            run_tool(main)
        assert stop.value.code == status
    assert capsys.readouterr().err == "error: a=1 is wrong\n"


def test_what_the_file_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    (tmp_path / "file").write_text("")

    def missing(_: list[str]) -> None:
        (tmp_path / "nowhere" / "a").write_text("")

    def occupied(_: list[str]) -> None:
        (tmp_path / "file").mkdir(exist_ok=True)

    for main, line in (
        (missing, f"error: {tmp_path}/nowhere/a: No such file or directory\n"),
        (occupied, f"error: {tmp_path}/file: File exists\n"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_tool(main)
        assert stop.value.code == 1 and capsys.readouterr().err == line


@pytest.mark.parametrize("argument", ["gallery run=nowhere", "report sweep=nowhere"])
def test_the_command_as_a_user_types_it(argument: str) -> None:
    tool, wrong = argument.split()
    command = [sys.executable, "-m", f"rpe.tools.{tool}"]
    done = subprocess.run([*command, wrong], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1 and "nowhere" in done.stderr
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"python -m rpe.tools.{tool}" in done.stdout
