"""Report the stage that limits a trained network."""

import lightning

from rpe.data.module import InstanceData, SplitDataset
from rpe.structures import BACKGROUND, check_count
from rpe.task.instance import InstanceTask
from rpe.task.limits import measure_limits


class LimitingStage(lightning.Callback):
    """A callback that prints one line after the test: AR@10 with stages replaced by the truth.

    It is measured on some validation images.

    Args:
        images: number of evenly spaced validation images; 0 measures nothing.

    Raises:
        UserError: `images` is negative.
    """

    def __init__(self, images: int) -> None:
        check_count("callbacks.limits.images", images, 0, "0 measures nothing")
        self.images = images

    def on_test_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(task, InstanceTask) or not isinstance(data, InstanceData):
            return
        if not trainer.is_global_zero or not task.uses_grouping or not self.images:
            return
        dataset = data.dataset("val")
        assert isinstance(dataset, SplitDataset)
        step = max(1, len(dataset) // self.images)
        samples = [dataset[index] for index in range(0, len(dataset), step)][: self.images]
        truth = dataset.truth()
        if any(bool((sample.labels > BACKGROUND).any()) for sample in samples):
            print(measure_limits(task.segmenter, samples, truth).describe(), flush=True)
