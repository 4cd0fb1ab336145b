"""Gradients clipped apart, and the settings of inference that the ranker learns from."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from digits_task import make_task


def test_the_ranker_is_clipped_apart() -> None:
    task, _ = make_task("ranker=learned")
    optimizer = task.optimizer(task)
    weight = task.model.embedding.layers[0].weight

    def clipped(value: float | None, algorithm: str | None) -> tuple[float, float]:
        for parameter in task.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for parameter in task.proposal.ranker.parameters():
            parameter.grad = torch.full_like(parameter, 50.0)
        weight.grad = torch.full_like(weight, 0.5 / weight.numel() ** 0.5)
        task.configure_gradient_clipping(optimizer, value, algorithm)
        assert weight.grad is not None
        return float(weight.grad.norm()), float(
            torch.cat([p.grad.flatten() for p in task.proposal.ranker.parameters()]).norm()
        )

    assert clipped(1.0, "norm") == pytest.approx((0.5, 1.0), rel=1e-4)
    assert clipped(1e-3, "value")[0] <= 1e-3 * weight.numel() ** 0.5 + 1e-6
    assert clipped(None, None)[1] > 100
    assert clipped(0, "norm")[1] > 100, "0 clips nothing, as in Lightning"


def test_the_ranker_learns_from_all_settings_of_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of four steps has one of the ranker, so that each epoch shows it one setting."""
    task, data = make_task("ranker=learned", "proposal.bandwidths=[0.3,0.4,0.5]", "data.batch_size=1")
    monkeypatch.setattr(type(task), "trainer", SimpleNamespace(num_training_batches=4))
    group_cells, seen = task.proposal.group_cells, []

    def record(output: Any, size: Any, setting: Any) -> Any:
        seen.append(setting)
        return group_cells(output, size, setting)

    monkeypatch.setattr(task.proposal, "group_cells", record)
    batch = next(iter(data.train_dataloader()))
    with torch.no_grad():
        output = task.model.embed(batch.images)
        for epoch in range(3):
            monkeypatch.setattr(type(task), "current_epoch", epoch)
            task.compute_ranking_loss(output, batch, 0)
    assert seen == task.proposal.settings
