import lightning
import pytest

from rpe.callbacks.agreement import Agreement
from rpe.structures import UserError
from rpe.task.base import Task


class Gathered(Task):
    """A task beside whose config stands another rank's."""

    def __init__(self, other: str) -> None:
        lightning.LightningModule.__init__(self)
        self.other = other

    def gather_ranks(self, mine: str) -> list[str]:
        return [self.other, mine]


def test_ranks_with_different_configs_refuse_to_train() -> None:
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    Agreement("a").on_fit_start(trainer, Gathered("a"))
    with pytest.raises(UserError, match="the configs of all ranks must be equal, got b, a."):
        Agreement("a").on_fit_start(trainer, Gathered("b"))
