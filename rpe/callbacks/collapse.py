"""Tell when the embedding stays collapsed: all pixels at nearly one point, where the grouping can separate nothing."""

import lightning

METRIC = "val/cosine-between-X0"


class CollapseWatch(lightning.Callback):
    """Print one line after a validation in which pixels of different groups are nearly one point, with the settings to change.

    Args:
        cosine: mean cosine of pixels of different groups above which the embedding counts as collapsed, in (-1, 1].
    """

    def __init__(self, cosine: float) -> None:
        self.cosine = cosine

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        found = float(trainer.callback_metrics.get(METRIC, -1.0))
        if found > self.cosine and trainer.is_global_zero:
            print(
                f"the embedding is collapsed after epoch {trainer.current_epoch + 1}: pixels of different groups have a mean cosine of "
                f"{found:.3f} (1 is one point). Raise loss.negative_weight, lower optimizer.lr, or set grouping.iterations=0.",
                flush=True,
            )
