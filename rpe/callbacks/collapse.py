"""Report a collapsed embedding: all pixels are at nearly one point, so grouping cannot separate them."""

import lightning

METRIC = "val/cosine-between-X0"


class CollapseWatch(lightning.Callback):
    """A callback that reports a collapsed embedding after validation, with the settings to change.

    Args:
        cosine: mean cosine of different-group pixels above which the embedding is collapsed, in (-1, 1].
    """

    def __init__(self, cosine: float) -> None:
        self.cosine = cosine

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        found = float(trainer.callback_metrics.get(METRIC, -1.0))
        if found > self.cosine and trainer.is_global_zero:
            print(
                f"the embedding is collapsed after epoch {trainer.current_epoch + 1}: pixels of different "
                f"groups have a mean cosine of {found:.3f} (1 is one point). Raise "
                "loss.pairwise.negative_weight, lower optimizer.lr, or set grouping.iterations=0.",
                flush=True,
            )
