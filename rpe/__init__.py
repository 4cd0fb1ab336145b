"""Recurrent pixel embedding for instance grouping (Kong and Fowlkes, CVPR 2018).

Reading order: structures, sphere, grouping, loss, network, segment, task, run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpe.grouping import mean_shift
    from rpe.loss import pairwise_margin_loss
    from rpe.run.trained import load

__all__ = ["load", "mean_shift", "pairwise_margin_loss"]

MODULES = {"load": "rpe.run.trained", "mean_shift": "rpe.grouping", "pairwise_margin_loss": "rpe.loss"}


def __getattr__(name: str) -> Any:
    """Import a public function on first use, so that commands without torch start fast."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
