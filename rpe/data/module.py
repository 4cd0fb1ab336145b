"""Define the base DataModules, samples and batches, and an order that depends on seed and epoch alone."""

import os
import signal
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rpe.data.image import Reader
from rpe.structures import InstanceBatch, Truth, UserError

SPLITS = ("train", "val", "test")
UNKNOWN_SPLIT = f"split must be one of {', '.join(SPLITS)}, got {{!r}}. Choose one."
"""Error for another split."""


class Sample(NamedTuple):
    """An image with its objects, as in `InstanceBatch`.

    `image_id` is its id in the truth, `size` its original (height, width).
    """

    image: Float[Tensor, "3 height width"]
    labels: Int64[Tensor, "height width"]
    image_id: int
    size: tuple[int, int]
    categories: Int64[Tensor, " label"]


@runtime_checkable
class Split(Protocol):
    """One split. Index `epoch * len + i` is item i, so persistent workers draw new crops in each epoch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class SplitDataset(Split, Protocol):
    """One split of images with objects. `classes` are those of `list_classes`."""

    classes: dict[int, str]

    def __getitem__(self, index: int) -> Sample: ...

    def truth(self) -> Truth:
        """Return the split's annotations in COCO format."""


def data_root() -> Path:
    """Return the folder of all data: the environment variable RPE_DATA_DIR, else `data`."""
    return Path(os.environ.get("RPE_DATA_DIR", "data"))


def make_generator(*numbers: int) -> np.random.Generator:
    """Return a random generator that depends on the numbers alone."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def normal_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC). macOS decomposes accented letters (NFD)."""
    return unicodedata.normalize("NFC", name)


def resolve_names(names: Sequence[str | int] | None, known: Sequence[str]) -> list[str]:
    """Return the chosen names as text, or all known names for None.

    YAML reads 100007 as an integer, which selects the name "100007". A name with a leading zero needs quotes,
    as YAML reads 0123 as octal, 83.

    Raises:
        UserError: a name is unknown, or no name is given.
    """
    spelling = {normal_name(name): name for name in known}
    wanted = [normal_name(str(name)) for name in names or []]
    chosen = (
        list(known) if names is None else list(dict.fromkeys(spelling.get(name, name) for name in wanted))
    )
    unknown = [name for name in wanted if name not in spelling]
    if unknown:
        raise UserError(
            f"names must be images of the split ({', '.join(known[:3])} ..), got {unknown[0]!r}. "
            "Correct it; quote a name that begins with 0."
        )
    if not chosen:
        raise UserError("names must hold a name, got none. Leave it out to score the whole split.")
    return chosen


class EpochSampler(Sampler[int]):
    """A sampler of one rank's items, in an order that depends on seed and epoch alone.

    Training shuffles and drops the last items if they do not fill all ranks. Otherwise each item occurs once,
    on one rank. Lightning calls `set_epoch`, so a resumed run continues in the same order.

    Args:
        begun: an epoch, and the number of its items that were trained before an interruption and are skipped.
    """

    def __init__(
        self, length: int, seed: int, shuffle: bool, rank: int, ranks: int, begun: tuple[int, int] = (0, 0)
    ) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.rank, self.ranks = rank, ranks
        self.begun = begun
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle:
            return self.length // self.ranks
        return len(range(self.rank, self.length, self.ranks))

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.rank, self.length, self.ranks))
        order = make_generator(self.seed, self.epoch).permutation(self.length) + self.epoch * self.length
        skipped = self.begun[1] if self.epoch == self.begun[0] else 0
        return iter(order[self.rank :: self.ranks][skipped : len(self)].tolist())


def list_classes(truth: Truth) -> dict[int, str]:
    """Return ids and names of all categories by ascending id. The k-th is class k; 0 is the background."""
    return dict(sorted((category["id"], category["name"]) for category in truth["categories"]))


def distinct_names(classes: Mapping[int, str], taken: str) -> dict[int, str]:
    """Return names for tables, with the id added where several ids share a name or the name is `taken`."""
    count = Counter([taken, *classes.values()])
    return {number: name if count[name] == 1 else f"{name} (id {number})" for number, name in classes.items()}


def collate(samples: list[Sample]) -> InstanceBatch:
    """Stack samples of one size to a batch.

    Raises:
        UserError: their sizes differ.
    """
    images, labels, image_ids, sizes, categories = zip(*samples, strict=True)
    if len({image.shape for image in images}) > 1:
        raise UserError(
            "data.eval_batch_size must be 1 for images of several sizes, "
            f"got {len(images)} images that differ in size. Set data.eval_batch_size=1."
        )
    return InstanceBatch(
        torch.stack(images), torch.stack(labels), list(image_ids), list(sizes), list(categories)
    )


def prepare_loading(_: int) -> None:
    """Prepare a loading process: one thread, so that it does not compete with training for cores.

    It ignores SIGTERM, which a scheduler may send to all processes. The training saves and ends it.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class SplitData(lightning.LightningDataModule):
    """A DataModule with the splits train, val and test, for samples of any type.

    Args:
        name: of the data, in results and folders.
        batch_size: images of a training step, on each rank.
        eval_batch_size: images of a validation step; more than 1 needs images of one size.
        num_workers: loading processes; 0 loads in the training process.
        seed: of the order of the training images, their crops and augmentation.
    """

    longest_side: int | None = None
    """Larger images are resized to this longest side, in evaluation and prediction. None keeps their size."""

    percentile_range: tuple[float, float] | None = None
    """Percentiles of the intensities that become black and white. None keeps the intensities."""

    def __init__(self, name: str, batch_size: int, eval_batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        least = {
            "batch_size": (batch_size, 1),
            "eval_batch_size": (eval_batch_size, 1),
            "num_workers": (num_workers, 0),
            "seed": (seed, 0),
        }
        for key, (value, low) in least.items():
            if value < low:
                raise UserError(f"data.{key} must be >= {low}, got {value}. Raise it.")
        self.name = name
        self.batch_size, self.eval_batch_size, self.num_workers, self.seed = (
            batch_size,
            eval_batch_size,
            num_workers,
            seed,
        )
        self.datasets: dict[tuple[str, bool], Split] = {}
        self.position = {"epoch": 0, "batches": 0}

    def state_dict(self) -> dict[str, int]:
        """Return how far an epoch has come, for a checkpoint in its middle; nothing at its end."""
        assert self.trainer is not None
        batches = self.trainer.fit_loop.batch_idx + 1
        if not 0 < batches < self.trainer.num_training_batches:
            return {}
        return {"epoch": self.trainer.current_epoch, "batches": batches, "ranks": self.trainer.world_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Set the position from which the loader of training continues."""
        self.position = state

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """Stack samples to a batch."""
        raise NotImplementedError

    @property
    def reader(self) -> Reader:
        """Return the reader of image files, with evaluation's settings."""
        return Reader(self.longest_side, self.percentile_range)

    def open_split(self, split: str, training: bool) -> Split:
        """Open a split, in training with random crops. Raise `UserError` for missing or wrong files."""
        raise NotImplementedError

    def dataset(self, split: str, training: bool = False) -> Split:
        """Return the dataset of a split, opened once.

        Raises:
            UserError: the dataset has no such split.
        """
        if split not in SPLITS:
            raise UserError(UNKNOWN_SPLIT.format(split))
        if (split, training) not in self.datasets:
            self.datasets[split, training] = self.open_split(split, training)
        return self.datasets[split, training]

    def loader(self, split: str, training: bool) -> DataLoader[Any]:
        """Return a loader in the order of `EpochSampler`.

        Raises:
            UserError: a rank would have no image, or less than one training batch.
        """
        dataset = self.dataset(split, training)
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        begun = (self.position["epoch"], self.position["batches"] * self.batch_size)
        sampler = EpochSampler(len(dataset), self.seed, training, rank, ranks, begun)
        if training and len(sampler) < self.batch_size:
            raise UserError(
                f"data.batch_size must be at most the images of {self.name} {split} on each of {ranks} "
                f"ranks, got {self.batch_size} for {len(dataset)} images. Lower it."
            )
        if len(dataset) < ranks:
            raise UserError(
                f"trainer.devices must be at most the images of {self.name} {split}, "
                f"got {ranks} ranks for {len(dataset)} images. Lower it."
            )
        torch_dataset: Dataset[Any] = dataset  # type: ignore[assignment]
        return DataLoader(
            torch_dataset,
            batch_size=self.batch_size if training else self.eval_batch_size,
            sampler=sampler,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            drop_last=training,
            persistent_workers=self.num_workers > 0 and training,
            worker_init_fn=prepare_loading,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the epoch in which training starts.

        Lightning sets a resumed run's epoch only after the workers have begun to load.
        """
        loader = self.loader("train", training=True)
        if self.trainer:
            assert isinstance(loader.sampler, EpochSampler)
            progress = self.trainer.fit_loop.epoch_progress.current
            loader.sampler.set_epoch(progress.processed)  # type: ignore[attr-defined]
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader("val", training=False)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader("test", training=False)


class InstanceData(SplitData):
    """A DataModule of images with objects, and their truth in COCO format."""

    collate = staticmethod(collate)

    def truth(self, split: str) -> Truth:
        """Return the annotations of a split in COCO format. Annotation files are read without the images.

        Raises:
            UserError: the dataset has no such split.
        """
        if split not in SPLITS:
            raise UserError(UNKNOWN_SPLIT.format(split))
        return self.read_truth(split)

    def read_truth(self, split: str) -> Truth:
        """Read the annotations of a known split. Raise `UserError` for missing or wrong files."""
        dataset = self.dataset(split)
        assert isinstance(dataset, SplitDataset)
        return dataset.truth()
