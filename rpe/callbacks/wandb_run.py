"""wandb beside metrics.csv: a run of ours is one run there, also when it was interrupted."""

import os
import secrets
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, WandbLogger

from rpe.structures import UserError

MODES = ("offline", "online", "disabled")


class WandbRun(WandbLogger):
    """Logs to the wandb run whose id lies in `<save_dir>/wandb_id`, written before training starts; a row of its history is a step of the optimiser.

    Started by an agent of wandb's, the run is the one that the agent opened: its id and project are the agent's.

    Args:
        save_dir: the run folder.
        project: in wandb.
        mode: offline, online or disabled.
        group: of the runs that belong together; null is none.
        name: as wandb shows it; null lets it make one up.
        tags: the user's.
        job_tags: beside them.
        settings: what else `wandb.init` takes: entity, notes.

    Raises:
        UserError: another mode.
    """

    def __init__(
        self,
        save_dir: str,
        project: str,
        mode: str,
        group: str | None,
        name: str | None,
        tags: list[str],
        job_tags: list[str],
        **settings: Any,
    ) -> None:
        if mode not in MODES:
            raise UserError(f"logger.wandb.mode {mode!r} is unknown: choose {', '.join(MODES)}")
        self.file = Path(save_dir) / "wandb_id"
        known = self.file.read_text().strip() if self.file.is_file() else secrets.token_hex(4)
        given = agents_run()
        every = list(dict.fromkeys([*tags, *job_tags]))
        super().__init__(
            save_dir=save_dir,
            project=project,
            mode=mode,
            id=given or known,
            resume="allow",
            group=group,
            name=name,
            tags=every,
            **settings,
        )
        del self._wandb_init["anonymous"]  # Lightning still says it, and wandb warns of it
        if given is not None:  # wandb takes both from the environment, and warns of others
            self._wandb_init |= {"id": None, "project": None}
        self.environment: dict[str, str] = {}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Opens the run, after its id is written down.

        Raises:
            UserError: wandb cannot be reached, knows nobody, or does not take a setting.
        """
        import wandb

        partial = self.file.with_name(f"{self.file.name}.partial")
        partial.write_text(f"{self.version}\n")
        os.replace(partial, self.file)
        self.environment = of_wandb(os.environ)
        try:
            _ = self.experiment
        except (wandb.errors.Error, TypeError, ValueError) as error:
            self.restore_environment()
            said = " ".join(str(error).split())
            remedy = ": run `wandb login` first, or take logger.wandb.mode=offline and `wandb sync` later"
            raise UserError(
                f"logger.wandb: {said}{remedy if isinstance(error, wandb.errors.Error) else ''}"
            ) from error
        super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """A row for the step. wandb counts rows by itself, and a run that goes on offline would count from 0 again, over the rows that are there."""
        self.experiment.log(
            dict(metrics) | ({} if step is None else {"trainer/global_step": step}), step=step
        )

    @rank_zero_only
    def conclude(self, figures: Mapping[str, float], pictures: Path, step: int) -> None:
        """The test's figures into the run's summary, as `test/<figure>`, and what was drawn: sheets of images as `sheets`, all else as `curves`."""
        files = sorted(pictures.glob("*.png"))
        sheets = [file for file in files if file.name.startswith("val-")]
        for key, shown in (("sheets", sheets), ("curves", [file for file in files if file not in sheets])):
            if shown:
                self.log_image(
                    key, [str(file) for file in shown], step, caption=[file.stem for file in shown]
                )
        self.experiment.summary.update({f"test/{name}": value for name, value in figures.items()})

    @rank_zero_only
    def finish(self, failed: bool) -> None:
        """End the run, or the next job of this process would write into it; of a failed job it is a failed run."""
        if self._experiment is None:
            return
        try:
            self._experiment.finish(exit_code=int(failed))
        finally:
            self._experiment = None
            self.restore_environment()

    def restore_environment(self) -> None:
        """wandb leaves the address of its service, which a process started later would take for its own."""
        for name in of_wandb(os.environ).keys() - self.environment.keys():
            del os.environ[name]
        os.environ.update(self.environment)


def of_wandb(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that wandb reads and writes."""
    return {name: value for name, value in environment.items() if "WANDB" in name}


def agents_run() -> str | None:
    """The id of the run that an agent of wandb's sweeps has opened for this process; None without an agent."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def wandb_runs(loggers: Iterable[Logger]) -> list[WandbRun]:
    """Those of a trainer's loggers that log to wandb."""
    return [logger for logger in loggers if isinstance(logger, WandbRun)]
