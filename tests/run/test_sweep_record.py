"""Where a sweep lives, how its jobs are named, and which errors are reported."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from tiny import tiny

import train
from rpe.data.digits import DigitScenes
from rpe.run.sweep_record import (
    ERROR_FILE,
    RECORD_FILE,
    StartedSweep,
    count_finished_jobs,
    find_failed_jobs,
    job_name,
    list_jobs,
    parse_values,
    record_jobs,
    sweep_folder,
)

CommandLine = Callable[..., None]
CONF = Path(__file__).parent.parent.parent / "conf"
TINY = tiny(2, 1, 1)


def named(overrides: list[str], folder: str = "outputs/digits/sweep/margin") -> str:
    return job_name(overrides, folder)


def test_a_point_is_called_by_its_overrides() -> None:
    assert named(["loss.pairwise.margin=0.3", "seed=0"]) == "loss.pairwise.margin-0.3_seed-0"
    assert named(["seed=0", "loss.pairwise.margin=0.3"]) == "loss.pairwise.margin-0.3_seed-0", (
        "in whatever order"
    )
    same = [
        "experiment=digits",
        "sweep=margin",
        "launcher=joblib",
        "logger=wandb",
        "+logger.wandb.tags=[a]",
        "callbacks.pictures.images=0",
    ]
    assert named([*same, "seed=0"]) == "seed-0", "what changes no result is no part of the name"
    assert named(same) == "defaults"
    assert named(["experiment=nuclei"]) == "experiment-nuclei" == named(["experiment=nuclei"], "mine"), (
        "what the folder does not say"
    )


def test_names_tell_apart_what_letters_do_not() -> None:
    names = {named([f"proposal.bandwidths={value}"]) for value in ("[0.1,0.2]", "[0.1_0.2]", "0.1_0.2")}
    assert len(names) == 3 and all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for name in names
    )
    long = [f"data.val_scenes={number}" for number in range(9)]
    assert named(long) != named(long[1:]) and len(named(long)) == 16 == len(named(long[1:]))


def test_a_sweep_lives_where_the_same_command_finds_it() -> None:
    assert (
        sweep_folder(["-m", "sweep=margin", "seed=0,1", "experiment=digits"]) == "outputs/digits/sweep/margin"
    )
    hashed = sweep_folder(["-m", "loss.pairwise.margin=0.1,0.2", "seed=0,1", "experiment=nuclei"])
    assert hashed == sweep_folder(
        ["-m", "seed=0,1", "loss.pairwise.margin=0.1,0.2", "trainer.max_epochs=2", "experiment=nuclei"]
    )
    assert hashed.startswith("outputs/nuclei/sweep/") and len(Path(hashed).name) == 8
    assert hashed != sweep_folder(["-m", "loss.pairwise.margin=0.1,0.3", "seed=0,1", "experiment=nuclei"])
    assert sweep_folder(["experiment=digits,nuclei"]).startswith("outputs/several/sweep/")
    assert sweep_folder(["-m", "sweep=margin", "data=coco", "--cfg", "job"]) == "outputs/coco/sweep/margin"


@pytest.mark.parametrize("sweep", sorted(file.stem for file in (CONF / "sweep").glob("*.yaml")))
def test_the_points_of_each_shipped_sweep_compose(sweep: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"sweep={sweep}", "seed=3"], return_hydra_config=True)
        points = list_jobs(config)
        axes = [len(str(values).split(",")) for values in config.hydra.sweeper.params.values()]
        assert len(points) == axes[0] * axes[1] if len(axes) > 1 else axes[0]
        for overrides in points.values():
            compose("train", overrides)
    assert all("seed=3" in overrides for overrides in points.values())


def test_commands_add_up_in_the_record(tmp_path: Path) -> None:
    record_jobs(tmp_path / "sweep", "first", {"seed-0": ["seed=0", "sweep=margin"]})
    record_jobs(
        tmp_path / "sweep",
        "second",
        {"seed-0": ["seed=0"], "seed-1": ["seed=1", "proposal.bandwidths=[0.1,0.2]"]},
    )
    record_jobs(tmp_path / "sweep", "first", {})
    points = {"seed-0": {"seed": 0}, "seed-1": {"seed": 1, "proposal.bandwidths": [0.1, 0.2]}}
    texts = {"seed-0": ["seed=0"], "seed-1": ["seed=1", "proposal.bandwidths=[0.1,0.2]"]}
    assert yaml.safe_load((tmp_path / "sweep" / RECORD_FILE).read_text()) == {
        "commands": ["first", "second"],
        "jobs": points,
        "overrides": texts,
    }
    assert parse_values(["+a.b=null", "launcher=joblib", "backbone=timm"]) == {
        "a.b": None,
        "backbone": "timm",
    }


def test_points_that_would_be_one_are_refused(
    command_line: CommandLine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for swept, line in (
        (
            "callbacks.pictures.images=0,1",
            "callbacks.pictures.images must be one value in a sweep, got several",
        ),
        (
            "sweep=margin,dimension",
            "sweep must be one option, got margin,dimension. Start a command for each.",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            command_line(train.main, *TINY, "-m", swept, f"hydra.sweep.dir={tmp_path / 's'}")
        assert (
            stop.value.code == 1
            and line in capsys.readouterr().err
            and not list(tmp_path.rglob("config.yaml"))
        )


def test_two_experiments_are_two_points(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command_line(
        train.main, *TINY, "-m", "experiment=digits,digits_semantic", "trainer.max_epochs=0", "seed=1"
    )
    (sweep,) = (tmp_path / "outputs" / "several" / "sweep").iterdir()
    assert (
        len(list(sweep.glob("*/metrics.json")))
        == 2
        == len(yaml.safe_load((sweep / RECORD_FILE).read_text())["jobs"])
    )


def test_all_failing_points_are_named(
    command_line: CommandLine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    swept = [
        "-m",
        "loss.pairwise.margin=0.5,2.0,abc,0.3",
        "trainer.max_epochs=0",
        f"hydra.sweep.dir={tmp_path / 'a b=c'}",
    ]
    with pytest.raises(SystemExit) as stop:
        command_line(train.main, *TINY, *swept)
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-3] == "error: 2 of the sweep's jobs failed, all others are done"
    assert lines[-2].endswith("margin must be in [0, 1), got 2.0. 0.5 makes different objects orthogonal.")
    assert lines[-1].endswith("loss.pairwise.margin must be a number, got 'abc'")
    assert "Traceback" not in "".join(lines)
    assert (
        len(list((tmp_path / "a b=c").rglob("metrics.json"))) == 2
        and len(list((tmp_path / "a b=c").rglob(ERROR_FILE))) == 2
    )
    record = yaml.safe_load((tmp_path / "a b=c" / RECORD_FILE).read_text())
    assert [point["loss.pairwise.margin"] for point in record["jobs"].values()] == [0.5, 2.0, "abc", 0.3]
    assert {folder.name for folder in (tmp_path / "a b=c").iterdir() if folder.is_dir()} == set(
        record["jobs"]
    )


def test_a_point_that_fails_by_our_fault_leaves_its_stack_trace_and_repeated_forgets_it(
    command_line: CommandLine,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swept = [*TINY, "-m", "seed=1", "trainer.max_epochs=0", f"hydra.sweep.dir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(DigitScenes, "__len__", lambda _: 1 // 0)
        with pytest.raises(SystemExit):
            command_line(train.main, *swept)
    lines = capsys.readouterr().err.strip().splitlines()
    assert "ZeroDivisionError" in lines[-1] and any("Traceback" in line for line in lines)
    (reason,) = tmp_path.rglob(ERROR_FILE)
    assert "Traceback" in reason.read_text()
    command_line(train.main, *swept)
    assert not list(tmp_path.rglob(ERROR_FILE)) and list(tmp_path.rglob("metrics.json"))


def test_failed_points_in_the_order_of_failing_and_only_those_asked_for(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "another")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ERROR_FILE).write_text(f"trace\nreason {name}\n")
        os.utime(tmp_path / name / ERROR_FILE, (number, number))
    asked = StartedSweep(tmp_path, ["a", "b", "c"])
    assert list(find_failed_jobs(asked).items()) == [("b", "reason b"), ("a", "reason a")]
    assert list(find_failed_jobs(StartedSweep(tmp_path, []))) == ["b", "a", "another"]
    (tmp_path / "a" / "metrics.json").write_text("{}")
    assert count_finished_jobs(asked) == 1
