"""Run Hydra's commands: a user's mistake becomes one line on stderr, a bug keeps its stack trace."""

import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from rpe.errors import PRINTED
from rpe.run.messages import describe_failed_jobs, describe_killed_worker, explain_error
from rpe.run.overrides import prepare_overrides
from rpe.run.run_name import resolve_run_name
from rpe.run.sweep_record import (
    ERROR_FILE,
    IN_SWEEP,
    choose_title,
    find_failed_jobs,
    job_name,
    started_sweeps,
)
from rpe.run_files import CONF, run_folder, write_whole


def run_command(main: Callable[[], Any]) -> None:
    """Run a command on the program's arguments; an error of the user's becomes one line and exit status 1."""
    silence_libraries()
    started_sweeps.clear()
    try:
        sys.argv[1:] = prepare_overrides(sys.argv[1:])
        main()
    except KeyboardInterrupt:
        remedy = "; the same command resumes" if started_sweeps else ""
        print(f"error: stopped by Ctrl-C{remedy}", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        failed = find_failed_jobs(started_sweeps[-1]) if started_sweeps else {}
        line = (
            describe_failed_jobs(failed) if failed else describe_killed_worker(error) or explain_error(error)
        )
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        for job, reason in failed.items():
            print(f"  {job}: {reason}", file=sys.stderr)
        raise SystemExit(1) from None


def silence_libraries() -> None:
    """Silence the messages of other libraries that a user cannot act on.

    Each process needs it, as the jobs of a sweep may run in processes of their own.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises errors instead of printing them
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.pytorch.callbacks",
        "mlflow.store.db.utils",  # tells of each table that it makes
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(
        logging.ERROR
    )  # it warns of each new experiment
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # repeats the error in three lines
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # the number of loading processes is the user's choice, data.num_workers
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # epochs without a validation have no metric by which the best checkpoint could be chosen
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
    # a cluster's login node has srun too, and launcher=submitit calls it
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")
    # frozen norms stay in evaluation mode while the network trains
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
    # its sampler starts at the checkpoint's position (SplitData.load_state_dict)
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
    # a resumed run has checkpoints
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def hydra_command(name: str, function: str) -> Callable[[], Any]:
    """Return Hydra's command line for a function of the composed config `conf/<name>.yaml`.

    Args:
        name: the config.
        function: the function's dotted path. It is imported once the config is composed, so that `--help`
            starts without torch.
    """

    def run(config: DictConfig) -> Any:
        return import_function(function)(config)

    command: Callable[[], Any] = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(run)
    return command


def import_function(path: str) -> Callable[..., Any]:
    """Return the function of a dotted path.

    The garbage collector rests meanwhile: it would search the million objects of torch and Lightning, which
    all stay, again and again.
    """
    gc.disable()
    try:
        return get_method(path)
    finally:
        gc.enable()


def report_errors(function: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Wrap a function of the config so that a user's error ends a single run with one line.

    Hydra would print a message of its own otherwise. A job of a sweep writes its error into its folder, and
    the sweep continues. The run folder holds the output as `<function>.log`.
    """
    from rpe.run.log import log_output

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> Any:
        folder = Path(HydraConfig.get().runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        silence_libraries()
        PRINTED.clear()  # each job prints its own warnings, into its own log
        keep = multirun or IN_SWEEP in os.environ
        with log_output(folder / f"{function.__name__}.log", keep), print_errors(folder, multirun):
            return function(config)

    return wrapped


@contextlib.contextmanager
def print_errors(folder: Path, multirun: bool) -> Iterator[None]:
    """Print one line for a user's error and exit with status 1; in a sweep write it and raise it again."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    error_file = folder / ERROR_FILE
    try:
        if multirun:
            error_file.unlink(missing_ok=True)
        yield
    except SIGTERMException:
        # it is a SystemExit without a status, which the caller would take for success
        print(f"error: stopped by SIGTERM; finished work is kept in {folder}", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM) from None
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C into a silent exit
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print(
            f"error: stopped by Ctrl-C; finished work is kept in {folder}: "
            f"hydra.run.dir={folder} continues an evaluation, resume={folder} a training, the same "
            "command a prediction",
            file=sys.stderr,
        )
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        line = explain_error(error)
        if multirun:
            write_whole(error_file, (line or traceback.format_exc()) + "\n")
            print(f"{folder.name} failed: {line or traceback.format_exc()}", file=sys.stderr)
        if multirun or line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(1) from None


def train_folder(resume: str | None, new: str) -> str:
    """Return the folder that a training writes into: a new one, or that of the run to resume."""
    return new if resume is None else str(run_folder(resume))


def prediction_folder(output: str | None, now: str) -> str:
    """Return the folder that a prediction writes into: `output`, else one named by the time.

    An empty `output=` does not mean the current folder.
    """
    return str(output) if output else f"outputs/predict/{now}"


def evaluation_folder(run: str | None, data: str | None, split: str, now: str) -> str:
    """Return the folder that an evaluation writes into: inside its run, else one named by the time."""
    if run is None:
        return f"outputs/evaluate/{now}"
    return str(run_folder(run) / "evaluation" / f"{data}-{split}")


def count_gpus() -> int:
    """Return the number of CUDA devices."""
    import torch

    return torch.cuda.device_count()


RESOLVERS: dict[str, Callable[..., Any]] = {
    "train_folder": train_folder,
    "prediction_folder": prediction_folder,
    "evaluation_folder": evaluation_folder,
    "title": choose_title,
    "job_folder": lambda overrides, folder: job_name(list(overrides), folder),
    "gpus": lambda least: max(least, count_gpus()),
    "gpus_per_job": lambda: min(1, count_gpus()),
    "job": resolve_run_name,
}
"""The resolvers that conf/ calls as `${rpe.<name>:...}`."""

for name, resolver in RESOLVERS.items():
    OmegaConf.register_new_resolver(f"rpe.{name}", resolver, replace=True)
