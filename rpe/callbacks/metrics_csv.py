"""Write metrics.csv in the run folder: one row per epoch, continued when a run resumes."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from rpe.run_files import open_whole


class MetricsCsv(Logger):
    """A logger of all metrics by epoch.

    Lightning's CSVLogger deletes an existing file, and with it the epochs before an interruption.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.file = Path(save_dir) / "metrics.csv"
        self.rows: dict[int, dict[str, float]] = {}
        if self.file.exists():
            with self.file.open(newline="") as stream:
                for row in csv.DictReader(stream):
                    values = {name: float(value) for name, value in row.items() if value}
                    epoch = int(values["epoch"])
                    self.rows[epoch] = {**values, "epoch": epoch}

    @property
    def name(self) -> str:
        """Return an empty name: the file lies in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Return an empty version: the file lies in the run folder itself."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the run's config.yaml holds the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add the metrics to their epoch's row."""
        epoch = int(metrics["epoch"])
        self.rows.setdefault(epoch, {}).update(metrics | {"epoch": epoch, "step": float(step or 0)})
        names = sorted({name for row in self.rows.values() for name in row} - {"epoch", "step"})
        with open_whole(self.file, "w") as stream:
            writer = csv.DictWriter(stream, ["epoch", "step", *names])
            writer.writeheader()
            writer.writerows(self.rows[epoch] for epoch in sorted(self.rows))
