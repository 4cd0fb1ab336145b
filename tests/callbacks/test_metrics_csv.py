import csv
from pathlib import Path

from rpe.callbacks.metrics_csv import MetricsCsv


def test_one_row_an_epoch_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    log = MetricsCsv(str(tmp_path))
    log.log_metrics({"epoch": 0, "val/AR@10": 0.25}, step=3)
    log.log_metrics({"epoch": 0, "train/loss": 1.5}, step=3)
    log.log_metrics({"epoch": 1, "train/loss": 9.0}, step=6)
    again = MetricsCsv(str(tmp_path))
    again.log_metrics({"epoch": 1, "train/loss": 1.0}, step=6)
    again.log_metrics({"epoch": 2, "train/loss": 0.5}, step=9)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [(row["epoch"], row["train/loss"], row["val/AR@10"]) for row in rows] == [
        ("0", "1.5", "0.25"),
        ("1", "1.0", ""),
        ("2", "0.5", ""),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
