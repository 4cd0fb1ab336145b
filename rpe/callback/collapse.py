"""Tell when the embedding stays collapsed: all pixels at nearly one point, where the grouping can separate nothing."""

import lightning

COLLAPSED = 0.9
"""Mean cosine of pixels of different groups above which the embedding counts as collapsed; trained ones lie below 0.5, an untrained one at 0.89."""

FIGURE = "val/cosine-between-X0"


class CollapseWatch(lightning.Callback):
    """Print one line after a validation whose mean cosine between groups is above 0.9, with the settings to change."""

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        cosine = float(trainer.callback_metrics.get(FIGURE, 0.0))
        if cosine > COLLAPSED and trainer.is_global_zero:
            print(
                f"the embedding is collapsed after epoch {trainer.current_epoch + 1}: pixels of different groups have a mean cosine of {cosine:.3f} "
                "(1 is one point). Raise loss.negative_weight, lower optimizer.lr, or start with grouping.iterations=0.",
                flush=True,
            )
