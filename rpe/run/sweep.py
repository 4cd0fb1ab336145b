"""What becomes of a sweep's failed points: each leaves its reason in its folder, all are named at the end."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

REASON = "error.txt"
"""In a failed point's folder: one line for a slip, the stack trace for a fault."""

folders: list[Path] = []
"""Of the sweeps that this process has started, the newest last."""


class Remember(Callback):
    """Keeps where the sweep writes, as its points may run in other processes."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # Hydra does so after its callbacks, and the folder's name asks it for the experiment
        folders.append(Path(config.hydra.sweep.dir))


def failed_points(sweep: Path) -> dict[str, str]:
    """The failed points by their folder, and the last line of the reason."""
    reasons = sorted(sweep.rglob(REASON), key=lambda file: (file.stat().st_mtime_ns, file))
    return {str(file.parent.relative_to(sweep)): file.read_text().strip().splitlines()[-1] for file in reasons}
