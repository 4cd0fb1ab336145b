"""Log to MLflow: a run of ours is one MLflow run, even if it was interrupted."""

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import MLFlowLogger

from rpe.run_files import write_whole


class MlflowRun(MLFlowLogger):
    """A logger to the MLflow run whose id is in `<save_dir>/mlflow_id`.

    Args:
        save_dir: the run folder.
        experiment_name: MLflow's experiment, a group of runs.
        run_name: name shown in MLflow; null lets MLflow choose one.
        tracking_uri: the server or database; null is the environment's MLFLOW_TRACKING_URI, else a database
            in the run folder.
    """

    def __init__(
        self, save_dir: str, experiment_name: str, run_name: str | None, tracking_uri: str | None
    ) -> None:
        self.file = Path(save_dir) / "mlflow_id"
        known = self.file.read_text().strip() if self.file.is_file() else None
        own = f"sqlite:///{Path(save_dir).absolute()}/mlflow.db"
        super().__init__(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or own,
            run_id=known,
        )

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Write the run's id and log the settings; MLflow takes them once."""
        if self.file.is_file():
            self.experiment.update_run(self.run_id, status="RUNNING")
            return
        write_whole(self.file, f"{self.run_id}\n")
        super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; MLflow allows no @, so AR@10 becomes AR_at_10."""
        super().log_metrics({name.replace("@", "_at_"): value for name, value in metrics.items()}, step)
