"""Runs of wandb, written offline and read back from its files."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb
from tiny import tiny
from wandb_files import wandb_files

import train
from rpe.callbacks.wandb_run import WandbRun
from rpe.structures import UserError
from rpe.task.instance import InstanceTask

CommandLine = Callable[..., None]
TINY = [*tiny(4, 2, 1), "callbacks.pictures.images=1", "logger=wandb"]


def made(folder: Path, mode: str = "disabled", tags: list[str] | None = None) -> WandbRun:
    return WandbRun(str(folder), "rpe", mode, None, None, tags or [], ["digits"])


def test_the_id_is_written_before_the_run_opens_and_read_again(tmp_path: Path) -> None:
    first = made(tmp_path, tags=["a", "digits"])
    assert not (tmp_path / "wandb_id").exists(), "a run that is refused leaves none"
    first.log_hyperparams({"a": 1})
    assert [file.name for file in tmp_path.glob("wandb_id*")] == ["wandb_id"]
    first.finish(failed=False)
    again = made(tmp_path)
    assert again.version == first._id == (tmp_path / "wandb_id").read_text().strip()
    assert again._wandb_init["resume"] == "allow" and first._wandb_init["tags"] == ["a", "digits"]


def test_an_agents_run_is_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "agent1")
    assert made(tmp_path).version != "agent1", "without an agent, a variable of someone else's"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    run = made(tmp_path)
    assert run.version == "agent1" and run._wandb_init["id"] is None is run._wandb_init["project"]


def test_unknown_modes_and_unknown_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="logger.wandb.mode must be offline, online or disabled, got 'no'."):
        made(tmp_path, "no")

    def unknown(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", unknown)
    with pytest.raises(
        UserError, match=r"logger.wandb: No API key configured. Use .*Run `wandb login` first"
    ):
        made(tmp_path, "online").log_hyperparams({})


@pytest.mark.parametrize(
    ("argument", "words"),
    [(f"logger.wandb.tags=[{'a' * 65}]", "64 characters"), ("+logger.wandb.colour=red", "colour")],
)
def test_settings_that_wandb_refuses(
    argument: str, words: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    line = refused(train.main, *TINY, argument, f"hydra.run.dir={tmp_path / 'run'}")
    assert line.startswith("error: logger.wandb: ") and words in line and "login" not in line


def variables() -> dict[str, str]:
    """Of this process, but for what a first training sets for all that follow."""
    lasting = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG", "HYDRA_FULL_ERROR")
    return {name: value for name, value in os.environ.items() if name not in lasting}


def test_jobs_of_one_process_are_runs_of_their_own(
    command_line: CommandLine, plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two finish and one fails on its way; each file holds what its job was and did, and the process is left as it was."""
    sweep = tmp_path / "digits" / "sweep" / "margin"
    forward = InstanceTask.training_step

    def step(task: InstanceTask, batch: object, index: int) -> object:
        if task.loss.pairwise.margin == 0.5 and task.current_epoch == 1:
            raise UserError("no more")
        return forward(task, batch, index)  # type: ignore[arg-type]

    monkeypatch.setattr(InstanceTask, "training_step", step)
    wandb.teardown()  # so that its service starts within the first job
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    before = variables()
    with pytest.raises(SystemExit) as stop:
        small = [
            "data.train_scenes=2",
            "data.val_scenes=1",
            "logger.wandb.tags=[mine]",
            "trainer.max_epochs=2",
        ]
        command_line(
            train.main, *TINY, *small, "-m", "loss.pairwise.margin=0.3,0.5,0.7", f"hydra.sweep.dir={sweep}"
        )
    assert stop.value.code == 1 and wandb.run is None and variables() == before
    runs = sorted(wandb_files(sweep), key=lambda run: run.name)
    assert [run.name for run in runs] == [
        "loss.pairwise.margin=0.3",
        "loss.pairwise.margin=0.5",
        "loss.pairwise.margin=0.7",
    ]
    assert [run.config["loss"]["pairwise"]["margin"] for run in runs] == [0.3, 0.5, 0.7] and all(
        run.config["trainer"]["max_epochs"] == 2 for run in runs
    )
    assert [run.exit_code for run in runs] == [0, 1, 0] and len({run.id for run in runs}) == 3
    assert {run.group for run in runs} == {"digits-margin"} and {run.project for run in runs} == {"rpe"}
    assert all(sorted(run.tags) == ["digits", "digits-margin", "instance", "mine"] for run in runs)
    for run in runs:
        (folder,) = (file.parent for file in sweep.glob("*/wandb_id") if file.read_text().strip() == run.id)
        rows = list(csv.DictReader((folder / "metrics.csv").open()))
        assert len(rows) == (1 if run.exit_code else 2)
        for name in (
            "epoch",
            "train/loss",
            "train/pairwise_0",
            "train/pairwise_1",
            "gradient/total-mean",
            "val/margin_violations/X1",
        ):
            assert run.column(name) == [pytest.approx(float(row[name]), rel=1e-6) for row in rows], name
        drawn = [
            name
            for key in ("sheets", "curves")
            for picture in run.column(key)
            for name in picture["filenames"]
        ]
        assert len(drawn) == (0 if run.exit_code else 4) and all(
            list(folder.glob(f"wandb/*/files/{name}")) for name in drawn
        )
        tested = {
            name.removeprefix("test/"): value
            for name, value in run.summary.items()
            if name.startswith("test/")
        }
        assert tested == (
            {}
            if run.exit_code
            else pytest.approx(json.loads((folder / "metrics.json").read_text())["metrics"])
        )
    assert len({tuple(run.column("train/pairwise_0")) for run in runs}) == 3


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, "SIGTERM"])
def test_a_stopped_run_is_a_failed_one_and_the_next_start_appends(
    stop: object, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = InstanceTask.training_step

    def step(task: InstanceTask, batch: object, index: int) -> object:
        if task.current_epoch == 1 and stop == "SIGTERM":
            os.kill(os.getpid(), 15)
        elif task.current_epoch == 1:
            raise stop  # type: ignore[misc]
        return forward(task, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(InstanceTask, "training_step", step)
        command_line(
            train.main,
            *TINY,
            "trainer.max_epochs=2",
            "+logger.wandb.notes=why",
            "callbacks.pictures=null",
            f"hydra.run.dir={tmp_path / 'run'}",
        )
    (first,) = wandb_files(tmp_path)
    assert first.exit_code == 1 and "test/AR@10" not in first.summary and first.group == ""
    assert first.name == " ".join([*TINY[1:-1], "trainer.max_epochs=2", "callbacks.pictures=null"])[:128]
    if stop != "SIGTERM":
        return
    command_line(train.main, f"resume={tmp_path / 'run'}")
    folders = wandb_files(tmp_path)
    assert [run.begun for run in folders] == sorted({run.begun for run in folders}), (
        "`wandb sync` takes files of one id by start, as their names"
    )
    assert (
        [run.id for run in folders]
        == 2 * [first.id]
        == 2 * [(tmp_path / "run" / "wandb_id").read_text().strip()]
    )
    steps = [row["_step"] for run in folders for row in run.history]
    assert steps == sorted(set(steps)), "in that order no row goes over another"
    again = folders[-1]
    assert (again.id, again.name, again.tags, again.exit_code) == (first.id, first.name, first.tags, 0)
    assert [row["_step"] for row in (*first.history, *again.history)] == [1, 3, 4], (
        "two epochs of two steps, then the pictures"
    )
    assert first.column("epoch") == [0] and again.column("epoch") == [1] and again.summary["test/images"] == 1
    command_line(train.main, f"resume={tmp_path / 'run'}")
    assert sorted(run.history[-1]["_step"] for run in wandb_files(tmp_path)) == [1, 4, 4], (
        "tested again: nothing goes over the first epoch's row"
    )
    folders = [str(file.parent) for file in tmp_path.rglob("*.wandb")]
    loud = {name: value for name, value in os.environ.items() if name != "WANDB_SILENT"}
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--dry-run", *folders],
        env=loud,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Would sync {len(folders)} run(s)" in done.stdout + done.stderr
