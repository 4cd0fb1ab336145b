"""Classes that are not of this package, for configs to name."""

from typing import Any

from rpe.data.module import SplitData
from rpe.task.base import Task


class Edges(Task):
    """A task without a model, with a loss alone and a number of its own."""

    monitor, shown, takes = "val/ODS", ("ODS",), SplitData

    def __init__(self, loss: Any, optimizer: Any, schedule: Any, thin: int) -> None:
        super().__init__(optimizer, schedule)
        self.loss, self.thin = loss, thin


class Broken:
    """A class of this package with a fault."""

    def __init__(self, depth: int) -> None:
        raise TypeError(f"our fault {depth}")


Broken.__module__ = "rpe.made_up"
