import json
from pathlib import Path

import pytest
import yaml
from made_sweep import BREAKS, write_point, write_sweep

from rpe.errors import UserError
from rpe.run_files import flatten_settings
from rpe.tools.report.jobs import (
    BROKEN,
    FAILED,
    FINISHED,
    PENDING,
    RUNNING,
    read_job,
    read_sweep,
)

OVERRIDES = {"embedding.dimension": 3, "loss.pairwise.margin": 0.5, "seed": 1}


@pytest.mark.parametrize("kind", BREAKS)
def test_what_is_broken_is_named_and_the_rest_is_read(kind: str, tmp_path: Path) -> None:
    write_point(tmp_path / "a", OVERRIDES)
    harm, words = BREAKS[kind]
    harm(tmp_path / "a")
    job = read_job(tmp_path / "a", OVERRIDES)
    assert len(job.faults) == 1 and words in job.faults[0], job.faults
    unread = "json" in kind or kind in ("no figures", "text as figure", "endless number")
    assert job.state == (BROKEN if unread else FINISHED) and bool(job.metrics) != unread
    assert len(job.pictures) == (1 if kind == "no picture" else 2)
    assert len(job.epochs) == {"torn csv": 1, "csv of text": 0, "binary csv": 0}.get(kind, 5)


def test_a_whole_point(tmp_path: Path) -> None:
    write_point(tmp_path / "a", OVERRIDES)
    job = read_job(tmp_path / "a", OVERRIDES)
    assert (job.state, job.faults, job.seconds) == (FINISHED, [], 12.5)
    assert job.metrics["AR@10"] == pytest.approx(0.46) and job.config["grouping"]["margin"] == 0.5
    assert [row["epoch"] for row in job.epochs] == [0, 1, 2, 3, 4]


def test_a_resumed_point_has_what_resuming_changed(tmp_path: Path) -> None:
    write_point(tmp_path / "a", OVERRIDES)
    (tmp_path / "a" / "resumed.yaml").write_text("trainer.max_epochs: 9\n")
    assert read_job(tmp_path / "a", {}).config["trainer"] == {"max_epochs": 9}


def test_states_of_a_sweep(tmp_path: Path) -> None:
    said = write_sweep(tmp_path, 12)
    sweep = read_sweep(tmp_path)
    assert [job.state for job in sweep.jobs] == [BROKEN, FAILED, RUNNING, PENDING, *[FINISHED] * 8]
    assert all(said[job.name] in job.reason for job in sweep.jobs[1:3])
    assert sweep.commands == ["python train.py -m sweep=made"] and sweep.recorded and not sweep.faults


def test_a_point_that_failed_and_then_finished_is_finished(tmp_path: Path) -> None:
    write_point(tmp_path / "a", OVERRIDES)
    (tmp_path / "a" / "error.txt").write_text("once\n")
    assert read_job(tmp_path / "a", {}).state == FINISHED


def test_without_its_list_a_sweep_is_its_run_folders(tmp_path: Path) -> None:
    for name in ("10_a", "9_a", "b"):
        write_point(tmp_path / name, OVERRIDES)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "error.txt").write_text("margin 3 is over 1\n")
    (tmp_path / "empty").mkdir()
    sweep = read_sweep(tmp_path)
    assert [job.name for job in sweep.jobs] == ["9_a", "10_a", "b", "c"] and not sweep.recorded
    assert (sweep.jobs[-1].state, sweep.jobs[-1].reason) == (FAILED, "margin 3 is over 1")


@pytest.mark.parametrize("content", ["a: [", "text", "points: [1]", "points: {a: 3}", ""])
def test_a_list_that_cannot_be_read_is_a_fault_and_no_end(content: str, tmp_path: Path) -> None:
    write_point(tmp_path / "a", OVERRIDES)
    (tmp_path / "sweep.yaml").write_text(content)
    sweep = read_sweep(tmp_path)
    assert len(sweep.jobs) == 1 and len(sweep.faults) == 1 and "sweep.yaml" in sweep.faults[0]


def test_folders_that_are_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sweep must be a folder that train.py -m wrote, got .*nowhere"):
        read_sweep(tmp_path / "nowhere")
    with pytest.raises(UserError, match="sweep must hold run folders"):
        read_sweep(tmp_path)


@pytest.mark.parametrize("key", ["jobs", "points"])
def test_names_of_folders_may_be_numbers_also_in_earlier_sweeps(key: str, tmp_path: Path) -> None:
    write_point(tmp_path / "12345678", OVERRIDES)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({key: {12345678: OVERRIDES}}))
    assert read_sweep(tmp_path).jobs[0].state == FINISHED


def test_dotted() -> None:
    assert flatten_settings({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}
    assert json.dumps(flatten_settings({})) == "{}"
