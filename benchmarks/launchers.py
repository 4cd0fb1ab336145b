"""Run one sweep of four jobs by each launcher, kill one job, repeat the command, and compare with serial.

    python benchmarks/launchers.py folder=<empty folder> [launchers=joblib,submitit_local]

The launchers are joblib, submitit_local, submitit, ray and torchrun. `submitit` needs a SLURM
(benchmarks/slurm.sh start), `ray` its extra. The sweep is digits in small, two seeds by two dimensions, in
double precision. A job is killed once it has written a checkpoint: SIGKILL to the process that holds its
folder. Then the same command runs until all jobs are done. Every job must have one row an epoch, and the
losses and test metrics of the serial sweep, which is not killed. `torchrun` and a second row of `submitit`
train each job on two ranks, which see the same global batch. Prints a table; the exit status is 1 where a
difference is over 1e-6.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml

from rpe.tools.report.jobs import read_metrics

ROOT = Path(__file__).resolve().parent.parent
SWEEP = (
    "train.py",
    "-m",
    "experiment=digits",
    "seed=0,1",
    "embedding.dimension=3,8",
    "data.train_scenes=40",
    "data.val_scenes=8",
    "data.test_scenes=8",
    "trainer.max_epochs=6",
    "trainer.accelerator=cpu",
    "callbacks.pictures=null",
    "callbacks.limits=null",
    "precision=double",
)
EPOCHS, JOBS = 6, 4
RANKS = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "data.batch_size=2")
LAUNCHERS: dict[str, tuple[str, ...]] = {
    "joblib": ("launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("launcher=submitit_local",),
    "submitit": (
        "launcher=submitit",
        "hydra.launcher.partition=main",
        "hydra.launcher.gpus_per_node=0",
        "hydra.launcher.cpus_per_task=1",
    ),
    "submitit, 2 ranks": (
        "launcher=submitit",
        "hydra.launcher.partition=main",
        "hydra.launcher.gpus_per_node=0",
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.tasks_per_node=2",
        *RANKS,
    ),
    "ray": ("launcher=ray", "hydra.launcher.ray.remote.num_gpus=0", "+hydra.launcher.ray.init.num_cpus=2"),
    "torchrun": RANKS,
}
ATTEMPTS = 4
PATIENCE = 900.0
"""Seconds in which the first checkpoint must be written."""


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the sweep's command."""
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2"] if name == "torchrun" else []
    settings = LAUNCHERS.get(name, ("data.batch_size=4",))
    command = [sys.executable, *torchrun, *SWEEP, *settings, f"hydra.sweep.dir={folder}"]
    # ray's workers are otherwise of niceness 15, at which a busy machine gives them next to no time
    environment = {"RAY_worker_niceness": "0"} | os.environ
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment)


def kill_a_job(folder: Path) -> int:
    """Kill the first job that has a checkpoint; return the number of epochs that it had trained."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for checkpoint in folder.glob("*/checkpoints/last.ckpt"):
            run = checkpoint.parent.parent
            processes = processes_with(run)
            if processes and not (run / "metrics.json").exists():
                for process in processes:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return len(read_losses(run))
        time.sleep(0.05)
    raise SystemExit(f"no job of {folder} has written a checkpoint in {PATIENCE:.0f} s, see {folder}.log.")


def processes_with(folder: Path) -> list[int]:
    """Return the processes that have a folder open, as its lock does."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == folder:
                found.add(int(link.parts[2]))
    return sorted(found)


def read_losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as rows:
        return [float(row["train/loss"]) for row in csv.DictReader(rows)]


def find_jobs(sweep: Path) -> dict[tuple[int, int], Path]:
    """Return the folder of each finished job by seed and dimension."""
    found = {}
    for metrics in sweep.glob("*/metrics.json"):
        config = yaml.safe_load((metrics.parent / "config.yaml").read_text())
        found[config["seed"], config["embedding"]["dimension"]] = metrics.parent
    return found


def largest_difference(sweep: Path, serial: Path) -> float:
    """Return the largest difference of losses and test metrics of all jobs; infinite where one is absent."""
    jobs, wanted = find_jobs(sweep), find_jobs(serial)
    if len(wanted) != JOBS or jobs.keys() != wanted.keys():
        return float("inf")
    worst = 0.0
    for name, run in wanted.items():
        losses = [read_losses(folder) for folder in (run, jobs[name])]
        figures = [read_metrics(folder / "metrics.json")[0] for folder in (run, jobs[name])]
        if [len(one) for one in losses] != [EPOCHS] * 2 or figures[0].keys() != figures[1].keys():
            return float("inf")
        pairs = [*zip(*losses, strict=True), *((figures[0][key], figures[1][key]) for key in figures[0])]
        worst = max(worst, *(abs(one - other) for one, other in pairs))
    return worst


def main() -> int:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if "folder" not in given or not given.keys() <= {"folder", "launchers"}:
        raise SystemExit("the keys must be folder and launchers. Use folder=<empty folder>.")
    names = given.get("launchers", "joblib,submitit_local").split(",")
    names = [name for one in names for name in LAUNCHERS if name.split(",")[0] == one]
    root = Path(given["folder"]).resolve()
    root.mkdir(parents=True, exist_ok=True)
    serial = root / "serial"
    if start("serial", serial).wait():
        raise SystemExit(f"the serial sweep must end well, see {serial}.log.")
    print("| launcher | killed after epoch | commands until done | seconds | jobs | largest difference |")
    print("|---|---|---|---|---|---|", flush=True)
    failed = False
    for name in names:
        started, sweep = time.monotonic(), root / name.replace(", ", "-").replace(" ", "-")
        process = start(name, sweep)
        epoch, commands = kill_a_job(sweep), 1
        while process.wait() and commands < ATTEMPTS:
            process, commands = start(name, sweep), commands + 1
        jobs = len(list(sweep.glob("*/config.yaml")))
        difference = largest_difference(sweep, serial)
        failed |= not difference <= 1e-6 or jobs != JOBS
        seconds = time.monotonic() - started
        print(f"| {name} | {epoch} | {commands} | {seconds:.0f} | {jobs} | {difference:.1g} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
