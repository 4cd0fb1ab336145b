"""Check that all ranks train the same config."""

import lightning

from rpe.structures import UserError
from rpe.task.base import Task


class Agreement(lightning.Callback):
    """A callback that stops training if the ranks' configs differ.

    Each of Lightning's ranks composes its own config.

    Args:
        fingerprint: hash of this process's config.

    Raises:
        UserError: two ranks differ; raised on every rank.
    """

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def on_fit_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Compare the fingerprints of all ranks.

        Raises:
            UserError: they differ.
        """
        assert isinstance(task, Task)
        found = task.gather_ranks(self.fingerprint)
        if len(set(found)) > 1:
            raise UserError(
                f"the configs of all ranks must be equal, got {', '.join(found)}. Start the command again."
            )
