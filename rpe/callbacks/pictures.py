"""Draw examples of the validation split into the run folder's `pictures/`."""

from pathlib import Path

import lightning

from rpe.data.module import SplitData
from rpe.structures import check_count
from rpe.task.base import Task


class Pictures(lightning.Callback):
    """A callback that draws validation images after the test, and some after each validation in training.

    Args:
        images: drawn after the test.
        images_in_training: drawn after each validation, at most `images`; each replaces its earlier picture.

    Raises:
        UserError: a number is negative.
    """

    def __init__(self, images: int, images_in_training: int) -> None:
        check_count("callbacks.pictures.images", images, 0, "0 draws none")
        check_count("callbacks.pictures.images_in_training", images_in_training, 0, "0 draws none")
        self.images = images
        self.images_in_training = min(images, images_in_training)

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.draw(trainer, task, self.images_in_training)

    def on_test_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.draw(trainer, task, self.images)

    def draw(self, trainer: lightning.Trainer, task: lightning.LightningModule, images: int) -> None:
        """Draw the first images of the validation split, on the first rank."""
        data = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(task, Task) or not isinstance(data, SplitData):
            return
        dataset = data.dataset("val")
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(exist_ok=True)
        for index in range(min(images, len(dataset))):
            task.draw_example(dataset[index], folder)
