"""All ranks train the same point."""

import lightning

from rpe.structures import UserError
from rpe.task.base import Task


class Agreement(lightning.Callback):
    """Refuses to train where the ranks' configs differ, as Lightning's ranks each compose their own.

    Args:
        fingerprint: of this process's config.

    Raises:
        UserError: on every rank, where two differ.
    """

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def on_fit_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        assert isinstance(task, Task)
        found = task.gathered(self.fingerprint)
        if len(set(found)) > 1:
            raise UserError(
                f"the ranks' configs differ ({', '.join(found)}): each would train another point; start the command anew"
            )
