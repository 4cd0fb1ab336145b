"""Sheets of a few validation images into the run folder's `pictures/`, and to wandb where it logs."""

from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import WandbLogger

from rpe.data.module import InstanceData, collate
from rpe.picture import draw_sheet
from rpe.structures import InputError
from rpe.task.instance import InstanceTask


class Pictures(lightning.Callback):
    """Drawn with the weights that the test used. Args: images: how many of the validation images."""

    def __init__(self, images: int) -> None:
        if images < 0:
            raise InputError(f"callback.pictures.images {images} is negative: 0 draws none")
        self.images = images

    def on_test_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(task, InstanceTask) or not isinstance(data, InstanceData):
            return
        dataset = data.dataset("val")
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(exist_ok=True)
        for index in range(min(self.images, len(dataset))):
            batch = collate([dataset[index]])
            with torch.no_grad():
                embedded = task.model.embed(batch.images.to(task.device))
                file = folder / f"val-{batch.image_ids[0]}.png"
                draw_sheet(batch, embedded, task.model.grouping, task.proposal, task.model.ranker, file)
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.log_image("pictures", [str(file)], caption=[file.stem])
