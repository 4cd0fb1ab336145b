"""Trackers beside wandb: what a training has logged is read back with MLflow's and TensorBoard's own readers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny

import train

pytest.importorskip("mlflow")
from mlflow.tracking import MlflowClient


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_both_trackers_hold_what_the_run_has_logged(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = [
        *tiny(4, 2, 2),
        "ranker=none",
        f"hydra.run.dir={run}",
        "logger=[tensorboard,mlflow]",
        "callbacks.pictures=null",
    ]
    command_line(train.main, *arguments, "trainer.max_epochs=1")
    figures = json.loads((run / "metrics.json").read_text())["metrics"]
    command_line(train.main, f"resume={run}", "trainer.max_epochs=2")

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    client = MlflowClient(f"sqlite:///{run}/mlflow.db")
    (experiment,) = (one for one in client.search_experiments() if one.name == "rpe")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.run_id == (run / "mlflow_id").read_text().strip(), "resumed, it is one run"
    assert kept.info.status == "FINISHED"
    assert kept.data.params["backbone/width"] == "8" and kept.data.params["trainer/max_epochs"] == "1"

    losses = [float(row["train/loss"]) for row in rows(run)]
    assert len(losses) == 2
    for found in (
        [event.value for event in events.Scalars("train/loss")],
        [one.value for one in client.get_metric_history(kept.info.run_id, "train/loss")],
    ):
        assert found == pytest.approx(losses)
    last = json.loads((run / "metrics.json").read_text())["metrics"]
    tested = [event.value for event in events.Scalars("test/ARI-modes")]
    assert tested == pytest.approx([figures["ARI-modes"], last["ARI-modes"]])
    assert kept.data.metrics["test/ARI-modes"] == pytest.approx(last["ARI-modes"])
    assert kept.data.metrics["test/AR_at_10"] == pytest.approx(last["AR@10"])
