"""wandb beside metrics.csv: a run of ours is one run there, also when it was interrupted."""

import secrets
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from rpe.structures import InputError

MODES = ("offline", "online", "disabled")


class WandbRun(WandbLogger):
    """Logs to the wandb run whose id lies in `<save_dir>/wandb_id`, written before training starts.

    Args:
        save_dir: the run folder.
        project: in wandb.
        mode: offline, online or disabled.
        settings: what else `wandb.init` takes: group, tags, entity, name.

    Raises:
        InputError: another mode.
    """

    def __init__(self, save_dir: str, project: str, mode: str, **settings: Any) -> None:
        if mode not in MODES:
            raise InputError(f"logger.wandb.mode {mode!r} is unknown: choose {', '.join(MODES)}")
        self.file = Path(save_dir) / "wandb_id"
        known = self.file.read_text().strip() if self.file.is_file() else secrets.token_hex(4)
        super().__init__(save_dir=save_dir, project=project, mode=mode, id=known, resume="allow", **settings)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Opens the run, after its id is written down.

        Raises:
            InputError: wandb cannot be reached or knows nobody.
        """
        import wandb

        self.file.write_text(f"{self.version}\n")
        try:
            super().log_hyperparams(params)
        except wandb.errors.Error as error:
            said = " ".join(str(error).split())
            raise InputError(f"logger.wandb: {said}: run `wandb login` first, or take logger.wandb.mode=offline and `wandb sync` later") from error
