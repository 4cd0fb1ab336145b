"""A perfect embedding and a useless one have the metrics that they should."""

import pytest
import torch
from digits_task import make_task

from rpe.data.digits import DigitScenes
from rpe.structures import FeatureMap, NetworkOutput
from rpe.task.embedding_metrics import embedding_metrics, mean_of_images, sample_evenly
from rpe.task.instance import InstanceTask


def metrics_of(task: InstanceTask, output: NetworkOutput, labels: torch.Tensor) -> dict[str, float]:
    return embedding_metrics(output, labels, task.model.grouping, task.proposal, task.loss.pairwise.margin)


def test_a_perfect_embedding_has_perfect_figures() -> None:
    task, _ = make_task()
    labels = DigitScenes("val", 5, 0)[1].labels
    groups = int(labels.max()) + 1
    # a simplex: what the loops pull together stays below the margin, where orthogonal points would lie on it
    corners = torch.nn.functional.normalize(torch.eye(16)[:groups] - torch.eye(16)[:groups].mean(0), dim=-1)
    points = corners[labels].permute(2, 0, 1)[None]
    perfect = NetworkOutput(
        FeatureMap(points, 1),
        FeatureMap(torch.where(labels > 0, 9.0, -9.0)[None, None], 1),
        FeatureMap(points, 1),
    )
    figures = metrics_of(task, perfect, labels)
    assert [figures[name] for name in figures if name.startswith("margin_violations")] == [0, 0]
    assert all(figures[name] == 1 for name in figures if name.startswith("ARI"))
    useless = NetworkOutput(
        FeatureMap(torch.eye(16)[torch.zeros_like(labels)].permute(2, 0, 1)[None], 1),
        perfect.objectness,
        perfect.features,
    )
    figures = metrics_of(task, useless, labels)
    assert [figures[name] for name in figures if name.startswith("margin_violations")] == [1, 1] and figures[
        "ARI-modes"
    ] == pytest.approx(0, abs=1e-9)
    assert [name for name in figures if name.startswith("ARI")] == ["ARI-X0", "ARI-X1", "ARI-modes"]


def test_evenly_and_mean_of() -> None:
    assert (
        len(sample_evenly(torch.arange(10), 10)) == 10
        and len(sample_evenly(torch.arange(5000), 7)) == 7
        and int(sample_evenly(torch.arange(5000), 7)[-1]) == 4999
    )
    assert mean_of_images([{"a": 1.0}, {"a": 2.0, "b": 5.0}]) == {"a": 1.5, "b": 5.0}
