"""Norms of the gradients: those before clipping, and a training that does not notice being watched."""

import csv
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
from tiny import tiny

import train
from rpe.callbacks.gradient_norm import NETWORK_PARTS, GradientNorm, part_of
from rpe.task.instance import InstanceTask

TINY = [*tiny(6, 1, 1), "trainer.max_epochs=2", "callbacks.pictures=null"]


def test_parts_by_name() -> None:
    names = [
        "model.backbone.stem.weight",
        "model.embedding.out.bias",
        "model.embeddings.0.out.bias",
        "proposal.ranker.a",
        "b",
    ]
    assert [part_of(name) for name in names] == [
        "backbone",
        "embedding",
        "embedding",
        "others",
        "others",
    ]


def test_norms_before_clipping_and_the_same_training(
    command_line: Callable[..., None], plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    clip = InstanceTask.configure_gradient_clipping

    def watched(task: InstanceTask, *arguments: object, **named: object) -> None:
        seen.append(
            float(
                torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None]).double().norm()
            )
        )
        clip(task, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(InstanceTask, "configure_gradient_clipping", watched)
    command_line(train.main, *TINY, "trainer.gradient_clip_val=0.01", f"hydra.run.dir={tmp_path / 'with'}")
    rows = list(csv.DictReader((tmp_path / "with" / "metrics.csv").open()))
    assert len(seen) == 6 and len(rows) == 2
    for epoch, row in enumerate(rows):
        wanted = seen[3 * epoch : 3 * epoch + 3]
        assert (
            float(row["gradient/total-mean"]) == pytest.approx(sum(wanted) / 3, rel=1e-5)
            and sum(wanted) / 3 > 0.1
        )
        assert (
            float(row["gradient/total-max"]) == pytest.approx(max(wanted), rel=1e-5)
            and float(row["gradient/overflows"]) == 0
        )
        assert all(
            0 < float(row[f"gradient/{part}-mean"]) <= float(row[f"gradient/{part}-max"])
            for part in NETWORK_PARTS
        )
    command_line(
        train.main,
        *TINY,
        "trainer.gradient_clip_val=0.01",
        "callbacks.gradient_norm=null",
        f"hydra.run.dir={tmp_path / 'without'}",
    )
    watched_, alone = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("with", "without")
    )
    assert all(torch.equal(watched_[name], alone[name]) for name in alone)
    (plain, *_) = csv.DictReader((tmp_path / "without" / "metrics.csv").open())
    assert (
        not any(name.startswith("gradient/") for name in plain)
        and plain["train/loss"] == rows[0]["train/loss"]
    )


class Two(lightning.LightningModule):
    """Logs into a table."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.ModuleDict(
            {"backbone": torch.nn.Linear(1, 1, bias=False), "head": torch.nn.Linear(1, 1, bias=False)}
        )
        self.logged: dict[str, torch.Tensor] = {}

    def log_dict(self, values: dict[str, torch.Tensor], **_: object) -> None:  # type: ignore[override]
        self.logged |= values


def test_steps_that_overflow_count_in_nothing_else() -> None:
    callback, task = GradientNorm(), Two()
    trainer, optimizer = (
        lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False),
        torch.optim.SGD(task.parameters()),
    )
    callback.on_train_start(trainer, task)
    callback.on_train_epoch_start(trainer, task)
    for backbone, head in ((3.0, 4.0), (float("inf"), 1.0), (float("nan"), 1.0), (-6.0, None)):
        task.net["backbone"].weight.grad = torch.full((1, 1), backbone)
        task.net["head"].weight.grad = None if head is None else torch.full((1, 1), head)
        callback.on_before_optimizer_step(trainer, task, optimizer)
    callback.on_train_epoch_end(trainer, task)
    assert {name: float(value) for name, value in task.logged.items()} == {
        "gradient/overflows": 2,
        "gradient/backbone-mean": 4.5,
        "gradient/backbone-max": 6,
        "gradient/embedding-mean": 0,
        "gradient/embedding-max": 0,
        "gradient/others-mean": 2,
        "gradient/others-max": 4,
        "gradient/total-mean": 5.5,
        "gradient/total-max": 6,
    }
