"""Steps and rates, whatever the task."""

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
    assert task.gather_ranks({"a": 1}) == [{"a": 1}] and task.compute_once(lambda: 3) == 3
