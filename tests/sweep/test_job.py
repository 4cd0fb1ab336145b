"""A sweep's jobs: skipped, gone on with, repeated; several at a time, and several ranks each."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import tiny
from wandb_files import wandb_files

import train
from rpe.run.sweep_record import ERROR_FILE
from rpe.run_files import flatten_settings

CommandLine = Callable[..., None]
ROOT = Path(__file__).parent.parent.parent
TINY = [*tiny(4, 1, 1), "callbacks.pictures.images=0"]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "WANDB_MODE": "offline",
    }
    called = [sys.executable, str(ROOT / "train.py"), *TINY, *arguments]
    return subprocess.run(
        called, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def by_margin(sweep: Path) -> dict[float, Path]:
    return {
        job["loss.pairwise.margin"]: sweep / name
        for name, job in yaml.safe_load((sweep / "sweep.yaml").read_text())["jobs"].items()
    }


def test_the_same_command_skips_goes_on_and_repeats(
    command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = [
        "-m",
        "loss.pairwise.margin=0.3,0.5,0.6,0.7",
        "trainer.max_epochs=2",
        f"hydra.sweep.dir={tmp_path}",
    ]
    command_line(train.main, *TINY, *swept)
    jobs = by_margin(tmp_path)
    wanted = {margin: figures(folder) for margin, folder in jobs.items()}
    finished = (jobs[0.3] / "metrics.json").stat().st_mtime_ns
    # killed after its second epoch, killed before its first checkpoint, failed
    for margin in (0.5, 0.6, 0.7):
        (jobs[margin] / "metrics.json").unlink()
    (jobs[0.6] / "checkpoints" / "last.ckpt").unlink()
    (jobs[0.7] / ERROR_FILE).write_text("a full disk\n")
    last = (jobs[0.5] / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    capsys.readouterr()
    command_line(train.main, *TINY, *swept)
    said = capsys.readouterr().out
    assert said.count("is done already") == 1 and "4 jobs are done: python -m rpe.tools.report sweep=" in said
    assert said.count("epoch 1/2 ") == 1 == said.count("epoch 2/2 "), (
        "only the one without a checkpoint trains again"
    )
    assert f"{jobs[0.6].name}: epoch 1/2 " in said, "of several at a time, each says which it is"
    assert (jobs[0.3] / "metrics.json").stat().st_mtime_ns == finished
    assert (jobs[0.5] / "checkpoints" / "last.ckpt").stat().st_mtime_ns == last
    assert {margin: figures(folder) for margin, folder in jobs.items()} == wanted
    assert not list(tmp_path.rglob(ERROR_FILE)) and len(list(tmp_path.glob("*/config.yaml"))) == 4


def test_other_settings_in_a_jobs_folder_are_refused(
    command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = ["-m", "loss.pairwise.margin=0.3", "trainer.max_epochs=0", f"hydra.sweep.dir={tmp_path}"]
    command_line(train.main, *TINY, *swept)
    (folder,) = by_margin(tmp_path).values()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["optimizer"]["lr"] = 0.5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit):
        command_line(train.main, *TINY, *swept)
    assert "optimizer.lr must be 0.5 as in " in capsys.readouterr().err
    (folder / "metrics.json").rename(folder / "away.json")
    (folder / "checkpoints" / "last.ckpt").rename(folder / "away.ckpt")
    command_line(train.main, *TINY, *swept)
    (folder / "resumed.yaml").write_text("trainer.max_epochs: 7")
    with pytest.raises(SystemExit):
        command_line(train.main, *TINY, *swept)
    assert "trainer.max_epochs must be 7 as in " in capsys.readouterr().err, (
        "gone on with by hand, it is another job"
    )
    (folder / "resumed.yaml").unlink()
    config["optimizer"]["lr"] = yaml.safe_load(
        (Path(ROOT) / "conf" / "optimizer" / "adamw.yaml").read_text()
    )["lr"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command_line(train.main, *TINY, *swept, "callbacks.progress.every_seconds=3")


def test_flattened() -> None:
    assert flatten_settings({"a": {"b": [1], "c": {}}, "d": None}) == {"a.b": [1], "a.c": {}, "d": None}


def witnessed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("rank-*.json"))]


def witness(fails: str = "null", kills: str = "null") -> list[str]:
    return [
        "+callbacks.witness._target_=witness.Witness",
        "+callbacks.witness.margin=${loss.pairwise.margin}",
        f"+callbacks.witness.fails={fails}",
        f"+callbacks.witness.kills={kills}",
    ]


def test_two_jobs_at_a_time_train_what_they_should(tmp_path: Path) -> None:
    """Each in a process of its own, with its share of the cores, and each job's wandb files hold its own config and figures."""
    swept = [
        "-m",
        "loss.pairwise.margin=0.3,0.5",
        "trainer.max_epochs=1",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        f"hydra.sweep.dir={tmp_path / 's'}",
    ]
    done = command(tmp_path, *swept, *witness(), "logger=wandb")
    assert done.returncode == 0, done.stderr[-2000:]
    said = {margin: witnessed(folder)[0] for margin, folder in by_margin(tmp_path / "s").items()}
    assert {margin: one["margin"] for margin, one in said.items()} == {0.3: 0.3, 0.5: 0.5}
    assert len({one["process"] for one in said.values()}) == 2 and {
        one["threads"] for one in said.values()
    } == {max(1, (os.cpu_count() or 1) // 2)}
    for margin, folder in by_margin(tmp_path / "s").items():
        (run,) = wandb_files(folder)
        assert (
            run.config["loss"]["pairwise"]["margin"] == margin
            and run.name == f"loss.pairwise.margin={margin}"
            and run.exit_code == 0
            and run.group.endswith("-s")
        )
        assert run.id == (folder / "wandb_id").read_text().strip()
        tested = {
            name.removeprefix("test/"): value
            for name, value in run.summary.items()
            if name.startswith("test/")
        }
        assert tested == pytest.approx(figures(folder)) and run.column("train/pairwise_0")


@pytest.mark.slow
def test_a_killed_worker_leaves_the_others_jobs_and_the_same_command_ends(tmp_path: Path) -> None:
    swept = [
        "-m",
        "loss.pairwise.margin=0.3,0.5,0.7",
        "trainer.max_epochs=3",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        f"hydra.sweep.dir={tmp_path / 's'}",
    ]
    done = command(tmp_path, *swept, *witness(kills="1"))
    assert done.returncode == 1 and "a process of the sweep was killed, or ran out of memory" in done.stderr
    for _ in range(3):
        if done.returncode:
            done = command(tmp_path, *swept, *witness(kills="1"))
    assert done.returncode == 0 and len(list((tmp_path / "s").glob("*/metrics.json"))) == 3
    assert all(len(list(csv.DictReader(file.open()))) == 3 for file in (tmp_path / "s").glob("*/metrics.csv"))


@pytest.mark.slow
def test_submitit_without_slurm(tmp_path: Path) -> None:
    swept = [
        "-m",
        "loss.pairwise.margin=0.3,2.0",
        "trainer.max_epochs=1",
        "launcher=submitit_local",
        f"hydra.sweep.dir={tmp_path / 's'}",
    ]
    done = command(tmp_path, *swept, *witness())
    assert done.returncode == 1 and "1 of the sweep's jobs failed, all others are done" in done.stderr, (
        done.stderr[-2000:]
    )
    assert witnessed(by_margin(tmp_path / "s")[0.3])[0]["margin"] == 0.3
    assert "margin must be in [0, 1), got 2.0" in (by_margin(tmp_path / "s")[2.0] / ERROR_FILE).read_text()


@pytest.mark.slow
def test_ray_on_one_machine(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra ray is not installed")
    ray = ["launcher=ray", "hydra.launcher.ray.remote.num_gpus=0", "+hydra.launcher.ray.init.num_cpus=2"]
    done = command(
        tmp_path,
        "-m",
        "loss.pairwise.margin=0.3,0.5",
        "trainer.max_epochs=1",
        *ray,
        f"hydra.sweep.dir={tmp_path / 's'}",
        *witness(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {
        margin: witnessed(folder)[0]["margin"] for margin, folder in by_margin(tmp_path / "s").items()
    } == {0.3: 0.3, 0.5: 0.5}


DDP = [
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "data.batch_size=1",
    "data.val_scenes=2",
    "data.test_scenes=2",
]


def check_ranks(folder: Path, margin: float, ranks: int) -> None:
    """Each rank trained this job on batches of its own."""
    said = witnessed(folder)
    assert [one["margin"] for one in said] == [margin] * ranks and {one["ranks"] for one in said} == {ranks}
    assert len({one["batch"] for one in said}) == ranks and len({one["process"] for one in said}) == ranks
    assert (folder / "metrics.json").is_file()


def test_a_job_of_two_ranks_trains_it_whole(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        "-m",
        "sweep=margin",
        "loss.pairwise.margin=0.3",
        *DDP,
        f"hydra.sweep.dir={tmp_path / 's'}",
        *witness(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for margin, folder in by_margin(tmp_path / "s").items():
        check_ranks(folder, margin, 2)
    assert sum(path.is_dir() for path in (tmp_path / "s").iterdir()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.slow
def test_a_first_job_that_fails_before_its_ranks_are_up_leaves_the_second_alone(tmp_path: Path) -> None:
    """In one process Lightning would now train rank 0 on job 1 and rank 1 on job 0."""
    done = command(
        tmp_path,
        "-m",
        "loss.pairwise.margin=0.3,0.5",
        *DDP,
        f"hydra.sweep.dir={tmp_path / 's'}",
        *witness(fails="0.3"),
    )
    assert done.returncode == 1 and "1 of the sweep's jobs failed, all others are done" in done.stderr
    jobs = by_margin(tmp_path / "s")
    assert (
        "broken before its ranks were up" in (jobs[0.3] / ERROR_FILE).read_text()
        and witnessed(jobs[0.3]) == []
    )
    check_ranks(jobs[0.5], 0.5, 2)
    assert sum(path.is_dir() for path in (tmp_path / "s").iterdir()) == 2


@pytest.mark.slow
def test_devices_may_change_between_jobs(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        "-m",
        "loss.pairwise.margin=0.3",
        "trainer.devices=2,1,2",
        "seed=0",
        *DDP,
        f"hydra.sweep.dir={tmp_path / 's'}",
        *witness(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = yaml.safe_load((tmp_path / "s" / "sweep.yaml").read_text())["jobs"]
    assert len(record) == 2, "the same job twice is one"
    for name, job in record.items():
        check_ranks(tmp_path / "s" / name, 0.3, job["trainer.devices"])


@pytest.mark.slow
def test_two_ranks_train_as_one_process_on_the_same_global_batch(tmp_path: Path) -> None:
    """20 steps of four scenes: the loss of each, averaged over the ranks, is that of one process. In double precision, as AdamW's steps multiply what single
    precision rounds otherwise: the first eight losses are then equal to 1e-5, the twentieth to 1e-3."""
    one = [
        "data.train_scenes=80",
        "precision=double",
        "data.batch_size=4",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        f"hydra.run.dir={tmp_path / '1'}",
    ]
    two = [
        "data.train_scenes=80",
        "precision=double",
        *DDP,
        "data.batch_size=2",
        f"hydra.run.dir={tmp_path / '2'}",
    ]
    for arguments in (one, two):
        done = command(tmp_path, *arguments, *witness())
        assert done.returncode == 0, done.stderr[-2000:]
    (alone,), ranks = (witnessed(tmp_path / name) for name in ("1", "2"))
    together = [sum(losses) / 2 for losses in zip(*(rank["losses"] for rank in ranks), strict=True)]
    assert len(together) == 20 and together == pytest.approx(alone["losses"], abs=1e-5)
    assert alone["losses"][-1] != pytest.approx(alone["losses"][0], abs=1e-2), "it learned meanwhile"


@pytest.mark.slow
def test_the_same_command_twice_at_a_time_trains_a_job_of_two_ranks_once(tmp_path: Path) -> None:
    swept = ["-m", "loss.pairwise.margin=0.3", *DDP, f"hydra.sweep.dir={tmp_path / 's'}", *witness()]
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: command(tmp_path, *swept), range(2)))
    assert [done.returncode for done in both] == [0, 0], both[0].stderr[-1000:] + both[1].stderr[-1000:]
    assert sum("is done already" in done.stdout for done in both) == 1 and not list(
        tmp_path.rglob(ERROR_FILE)
    )


@pytest.mark.slow
def test_a_killed_job_of_two_ranks_goes_on(tmp_path: Path) -> None:
    swept = [
        "-m",
        "loss.pairwise.margin=0.3",
        *DDP,
        "trainer.max_epochs=3",
        f"hydra.sweep.dir={tmp_path / 's'}",
        *witness(kills="1"),
    ]
    assert command(tmp_path, *swept).returncode == 1
    done = command(tmp_path, *swept)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = by_margin(tmp_path / "s").values()
    assert len(list(csv.DictReader((folder / "metrics.csv").open()))) == 3
