"""Log to wandb: a run of ours is one wandb run, even if it was interrupted."""

import os
import secrets
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, WandbLogger

from rpe.run_files import write_whole
from rpe.structures import UserError

MODES = ("offline", "online", "disabled")


class WandbRun(WandbLogger):
    """A logger to the wandb run whose id is in `<save_dir>/wandb_id`.

    The file is written before training starts. A row of the run's history is a step of the optimiser. Under a
    wandb agent, the run is the one that the agent opened, with the agent's id and project.

    Args:
        save_dir: the run folder.
        project: wandb project.
        mode: offline, online or disabled.
        group: wandb group of related runs; null sets no group.
        name: name shown in wandb; null lets wandb choose one.
        tags: tags of the user.
        job_tags: further tags, of the job.
        settings: further arguments of `wandb.init`, such as entity and notes.

    Raises:
        UserError: `mode` is not one of these.
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
            raise UserError(f"logger.wandb.mode must be offline, online or disabled, got {mode!r}.")
        self.file = Path(save_dir) / "wandb_id"
        known = self.file.read_text().strip() if self.file.is_file() else secrets.token_hex(4)
        given = agent_run_id()
        super().__init__(
            save_dir=save_dir,
            project=project,
            mode=mode,
            id=given or known,
            resume="allow",
            group=group,
            name=name,
            tags=list(dict.fromkeys([*tags, *job_tags])),
            **settings,
        )
        del self._wandb_init["anonymous"]  # Lightning still passes it, and wandb warns
        if given is not None:  # wandb takes both from the environment, and warns about others
            self._wandb_init |= {"id": None, "project": None}
        self.environment: dict[str, str] = {}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write the run's id, then open the run.

        Raises:
            UserError: wandb cannot be reached, has no login, or refuses a setting.
        """
        import wandb

        write_whole(self.file, f"{self.version}\n")
        self.environment = wandb_variables(os.environ)
        try:
            _ = self.experiment
        except (wandb.errors.Error, TypeError, ValueError) as error:
            self.restore_environment()
            message = " ".join(str(error).split())
            if isinstance(error, wandb.errors.Error):
                message += (
                    ". Run `wandb login` first, or use logger.wandb.mode=offline and `wandb sync` later."
                )
            raise UserError(f"logger.wandb: {message}") from error
        super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row with its step. wandb's own count would restart at 0 when an offline run resumes."""
        self.experiment.log(
            dict(metrics) | ({} if step is None else {"trainer/global_step": step}), step=step
        )

    @rank_zero_only
    def log_test(self, metrics: Mapping[str, float], pictures: Path, step: int) -> None:
        """Write the test metrics into the run's summary, as `test/<metric>`, and log the pictures.

        Sheets of images are logged as `sheets`, other pictures as `curves`.
        """
        files = sorted(pictures.glob("*.png"))
        sheets = [file for file in files if file.name.startswith("val-")]
        for key, shown in (("sheets", sheets), ("curves", [file for file in files if file not in sheets])):
            if shown:
                self.log_image(
                    key, [str(file) for file in shown], step, caption=[file.stem for file in shown]
                )
        self.experiment.summary.update({f"test/{name}": value for name, value in metrics.items()})

    @rank_zero_only
    def finish(self, failed: bool) -> None:
        """End the run, marked as failed if the job failed.

        The next job of this process would otherwise write into it.
        """
        if self._experiment is None:
            return
        try:
            self._experiment.finish(exit_code=int(failed))
        finally:
            self._experiment = None
            self.restore_environment()

    def restore_environment(self) -> None:
        """Restore the environment, where wandb leaves the address of its service for later processes."""
        for name in wandb_variables(os.environ).keys() - self.environment.keys():
            del os.environ[name]
        os.environ.update(self.environment)


def wandb_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that wandb reads and writes."""
    return {name: value for name, value in environment.items() if "WANDB" in name}


def agent_run_id() -> str | None:
    """Return the id of the run that a wandb sweep agent opened for this process; None without an agent."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def wandb_runs(loggers: Iterable[Logger]) -> list[WandbRun]:
    """Return the loggers that log to wandb."""
    return [logger for logger in loggers if isinstance(logger, WandbRun)]
