"""Gradients clipped apart."""

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
