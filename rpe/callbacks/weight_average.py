"""Average the weights exponentially; the average is validated, kept as best, and tested."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from rpe.structures import UserError


class WeightAverage(WeightAveraging):
    """Lightning's callback, averaging the weights over about the last 1 / (1 - `decay`) steps.

    After n steps it keeps at most (1 + n) / (10 + n), as TensorFlow does. Otherwise a training of 500
    steps with decay 0.998 would end with a third of its initial weights. Checkpoints hold the average as
    their weights, and the current weights beside it. A resumed run continues from the current ones.

    Args:
        decay: share of the average that is kept at each step, in [0, 1).

    Raises:
        UserError: decay is out of range.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UserError(
                f"callbacks.weight_average.decay must be in [0, 1), got {decay}. Use e.g. 0.998, or "
                "callbacks=default for no average."
            )
        self.decay = decay
        super().__init__(avg_fn=self.average)

    def average(self, averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
        """Return the average after a step, of which `updates` were made before."""
        # a tensor, as reading its value would stop a GPU
        kept = ((1 + updates) / (10 + updates)).clamp(max=self.decay)
        return kept * averaged + (1 - kept) * current
