"""Compile networks, grouping and loss, and print graph breaks and differences as JSON.

    python tests/compile_audit.py <scratch folder>

A program of its own, as the checks of shapes and types, which every test run installs, cut the graph.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

import rpe.run
from rpe.run_files import CONF
from rpe.sphere import normalise
from rpe.task.base import Task
from rpe.task.instance import InstanceTask

NETWORKS: dict[str, list[str]] = {
    "digits": ["backbone.width=8"],
    "voc": ["backbone.weights=null"],
    "bsds_scratch": ["backbone.width=4"],
}
LOSSES: dict[str, list[str]] = {
    "plain": [],
    "learned bandwidth": ["grouping.learn_bandwidth=true"],
    "range": ["loss.pairwise.negative_range=9"],
}
CASES = [*((name, False) for name in LOSSES), ("plain", True)]


def task_of(experiment: str, *overrides: str) -> Task:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", *overrides])
    torch.manual_seed(0)
    return rpe.run.build_task(config)


def graph_breaks(function: Any, *arguments: Any) -> int:
    """Return the number of graph breaks; -1 where there is no graph at all."""
    torch._dynamo.reset()
    report = torch._dynamo.explain(function)(*arguments)
    for reason in report.break_reasons:
        print(reason, file=sys.stderr)
    return report.graph_break_count if report.graph_count else -1


def check_network(experiment: str) -> int:
    task = task_of(experiment, *NETWORKS[experiment])
    network = task.model.embed if isinstance(task, InstanceTask) else task.model.detect
    return graph_breaks(network, torch.rand(2, 3, 64, 64))


def check_loss(name: str, half: bool) -> dict[str, Any]:
    """Return graph breaks, and the largest difference of loss and gradients from the plain ones."""
    task = task_of("digits", "backbone.width=8", "grouping.iterations=2", *LOSSES[name])
    assert isinstance(task, InstanceTask)
    labels, positions = torch.randint(-1, 4, (2, 64)), 64 * torch.rand(2, 64, 2)
    vectors = torch.randn(2, 64, 8, requires_grad=True)
    learned = [vectors, *task.model.grouping.parameters()]

    def loss(vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        iterates = task.model.grouping(normalise(vectors))
        return torch.stack(list(task.loss.pairwise(iterates, positions, labels).values())).sum()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        breaks, worst = graph_breaks(loss, vectors, labels), 0.0
        torch._dynamo.reset()
        compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
        for chosen in (labels, torch.full_like(labels, 1), labels.flip(1).contiguous()):
            pair = [function(vectors, chosen) for function in (loss, compiled)]
            gradients = [torch.autograd.grad(value, learned) for value in pair]
            pair += [torch.cat([one.flatten() for one in some]) for some in gradients]
            worst = max(worst, *(float((pair[i] - pair[i + 1]).detach().abs().max()) for i in (0, 2)))
    return {"breaks": breaks, "difference": worst, "type": str(pair[1].dtype)}


def train_loss(folder: Path, backend: str) -> float:
    """Train the digits in small, and return the loss of the epoch."""
    from tiny import tiny

    sys.argv = [
        "train.py",
        *tiny(6, 2, 1),
        "trainer.max_epochs=1",
        f"compile={backend}",
        f"hydra.run.dir={folder}",
    ]
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import train

    rpe.run.run_command(train.main)
    return float(next(csv.DictReader((folder / "metrics.csv").open()))["train/loss"])


def main() -> None:
    folder, stdout = Path(sys.argv[1]), sys.stdout
    sys.stdout = sys.stderr
    torch.set_num_threads(1)
    found = {
        "networks": {experiment: check_network(experiment) for experiment in NETWORKS},
        "losses": {f"{name}{' bf16' * half}": check_loss(name, half) for name, half in CASES},
        "runs": {backend: train_loss(folder / backend, backend) for backend in ("false", "aot_eager")},
    }
    stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
