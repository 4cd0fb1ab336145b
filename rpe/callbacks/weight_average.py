"""Exponential moving average of the weights: what is validated, kept as best, and tested."""

from lightning.pytorch.callbacks import EMAWeightAveraging


class WeightAverage(EMAWeightAveraging):
    """Average the weights over the last 1 / (1 - `decay`) steps or so (Lightning's own callback with its number in the YAML).

    Checkpoints hold the average as their weights and the current weights beside it; a resumed run continues from these.

    Args:
        decay: share of the average that one step keeps, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
