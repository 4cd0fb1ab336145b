"""Average the weights exponentially; the average is validated, kept as best, and tested."""

from lightning.pytorch.callbacks import EMAWeightAveraging


class WeightAverage(EMAWeightAveraging):
    """Lightning's callback that averages the weights over about the last 1 / (1 - `decay`) steps.

    Checkpoints hold the average as their weights, and the current weights beside it. A resumed run continues
    from the current ones.

    Args:
        decay: share of the average that is kept at each step, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
