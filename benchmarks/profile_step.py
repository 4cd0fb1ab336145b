"""Time the parts of a training step.

    python benchmarks/profile_step.py [override ...]        # default: experiment=digits

The step runs as in training, but the graph is cut at the points and at the iterates, so that the backward of
each part is timed by itself. The gradients equal those of the uncut step. Times are medians of 20 steps after
5 warm-ups.
"""

import itertools
import statistics
import sys
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

import rpe.run
from rpe.sphere import normalise
from rpe.structures import Batch
from rpe.task.instance import InstanceTask

WARM_UPS, STEPS = 5, 20
CONF = Path(__file__).resolve().parent.parent / "conf"


class Stopwatch:
    """A stopwatch that sums the seconds of the named parts of one step."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self.last
        self.last = now


def cut(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same values as the start of a new graph."""
    return tensor.detach().requires_grad_()


def step(
    task: InstanceTask, optimizer: torch.optim.Optimizer, batch: Batch, index: int, watch: Stopwatch
) -> float:
    positions, labels = task.loss.pairwise.choose_pixels(batch.labels, torch.Generator().manual_seed(index))
    watch.lap("choice of pixels")
    output = task.model.embed(batch.images)
    points = normalise(output.points.at(positions))
    watch.lap("network, forward")
    start = cut(points)
    iterates = task.model.grouping(start)
    watch.lap("grouping, forward")
    ends = [cut(iterate) for iterate in iterates]
    terms = task.loss(ends, positions, labels, output, batch)
    # the other terms belong to the network: their backward runs with the network's
    pairwise = torch.stack([term for name, term in terms.items() if name.startswith("pairwise")]).sum()
    others = torch.stack([term for name, term in terms.items() if not name.startswith("pairwise")]).sum()
    watch.lap("loss, forward")
    pairwise.backward()
    watch.lap("loss, backward")
    torch.autograd.backward(iterates, [end.grad for end in ends])
    watch.lap("grouping, backward")
    optimizer.zero_grad()
    torch.autograd.backward([points, others], [start.grad, torch.ones_like(others)])
    watch.lap("network, backward")
    optimizer.step()
    watch.lap("optimiser")
    return float((pairwise + others).detach())


def main() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", sys.argv[1:] or ["experiment=digits"])
    torch.manual_seed(0)
    task, data = rpe.run.build_task(config), rpe.run.build_data(config)
    optimizer = task.optimizer(task)
    steps: list[dict[str, float]] = []
    # as many epochs as needed
    batches = itertools.chain.from_iterable(data.train_dataloader() for _ in itertools.count())
    for index in range(WARM_UPS + STEPS):
        watch = Stopwatch()
        batch = next(batches)
        watch.lap("data")
        step(task, optimizer, batch, index, watch)
        steps.append(watch.parts)
    medians = {part: statistics.median(parts[part] for parts in steps[WARM_UPS:]) for part in steps[0]}
    total = sum(medians.values())
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {len(batch.images)}, "
        f"{config['loss']['pairwise']['num_pixels']} pixels per image\n"
    )
    print("| part | ms | share |\n|---|---|---|")
    for part, seconds in medians.items():
        print(f"| {part} | {1000 * seconds:.1f} | {100 * seconds / total:.0f} % |")
    ours = sum(seconds for part, seconds in medians.items() if part.startswith(("grouping", "loss")))
    print(f"| grouping and loss | {1000 * ours:.1f} | {100 * ours / total:.0f} % |")
    print(f"| step | {1000 * total:.1f} | 100 % |")


if __name__ == "__main__":
    main()
