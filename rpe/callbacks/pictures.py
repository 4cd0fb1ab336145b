"""Sheets of a few validation images into the run folder's `pictures/`."""

from pathlib import Path

import lightning

from rpe.data.module import SplitData
from rpe.structures import UserError
from rpe.task.base import Task


class Pictures(lightning.Callback):
    """Drawn with the weights that the test used. Args: images: how many of the validation images."""

    def __init__(self, images: int) -> None:
        if images < 0:
            raise UserError(f"callbacks.pictures.images {images} is negative: 0 draws none")
        self.images = images

    def on_test_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(task, Task) or not isinstance(data, SplitData):
            return
        dataset = data.dataset("val")
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(exist_ok=True)
        for index in range(min(self.images, len(dataset))):
            task.draw_example(dataset[index], folder)
