"""Steps and rates, whatever the task."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rpe.data.digits import Digits
from rpe.task.base import Result, Scoring, Task


def task_with(batches: int | float, accumulated: int, epochs: int) -> Task:
    task = Task(lambda network: torch.optim.SGD(network.parameters(), lr=2.0), lambda progress: 1 - progress)
    task.layer = torch.nn.Linear(1, 1)
    data = Digits(
        "digits",
        batch_size=4,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
        train_scenes=43,
        val_scenes=1,
        test_scenes=1,
    )
    trainer = SimpleNamespace(
        datamodule=data,
        world_size=2,
        limit_train_batches=batches,
        accumulate_grad_batches=accumulated,
        max_epochs=epochs,
        loggers=[],
    )
    task._trainer = trainer  # type: ignore[assignment]
    return task


@pytest.mark.parametrize(
    ("batches", "accumulated", "epochs", "steps"),
    [(1.0, 1, 3, 15), (3, 1, 2, 6), (0.5, 1, 1, 2), (1.0, 2, 1, 3), (1.0, 1, 0, 5)],
)
def test_steps_of_a_training(batches: float, accumulated: int, epochs: int, steps: int) -> None:
    assert task_with(batches, accumulated, epochs).total_steps() == steps


def test_the_rate_follows_the_schedule_over_all_steps() -> None:
    configured = task_with(1.0, 1, 2).configure_optimizers()
    scheduler = configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(10):
        rates += scheduler.get_last_lr()
        configured["optimizer"].step()
        scheduler.step()
    assert rates == pytest.approx([2 - 0.2 * step for step in range(10)])


def test_a_result_writes_nothing_by_default(tmp_path: Path) -> None:
    data = task_with(1.0, 1, 1)._trainer.datamodule
    assert Result({"x": 1.0}).files() == {}
    Result({}).draw(tmp_path, data, "val")
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotImplementedError):
        Task.score(data, "val", Path("x"), Path("y"), None, Scoring("own", 0.5, None))


def test_one_process_is_the_first_and_all() -> None:
    task = task_with(1.0, 1, 1)
    task._trainer.world_size, task._trainer.is_global_zero = 1, True  # type: ignore[union-attr]
    result = Result({"x": 1.0})
    assert task.gather_ranks({"a": 1}) == [{"a": 1}] == task.gather_on_first({"a": 1})
    assert task.compute_on_first(lambda: result) is result


def run_rank(rank: int, folder: Path) -> None:
    """Gather and evaluate as one of two ranks; write what this rank holds then."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    task = task_with(1.0, 1, 1)
    task._trainer.is_global_zero = rank == 0  # type: ignore[union-attr]
    gathered = task.gather_on_first({"rank": rank})
    result = task.compute_on_first(lambda: NamedResult({"ranks": float(len(gathered))}, "of the first rank"))
    found = [gathered, type(result).__name__, result.metrics]
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()  # its threads may abort a process that just ends


@dataclass
class NamedResult(Result):
    name: str


def test_the_first_rank_alone_holds_what_all_have_found(tmp_path: Path) -> None:
    """All others get its metrics, and neither the others' values nor its result."""
    torch.multiprocessing.spawn(run_rank, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == [[{"rank": 0}, {"rank": 1}], "NamedResult", {"ranks": 2.0}]
    assert second == [[], "Result", {"ranks": 2.0}]
