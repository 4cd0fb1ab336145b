"""What all datasets share: an order that depends on nothing but seed and epoch; those for instance grouping also samples, batches, a truth."""

import os
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
from rpe.structures import InstanceBatch, UserError

SPLITS = ("train", "val", "test")
UNKNOWN_SPLIT = f"split {{!r}} is unknown: choose {', '.join(SPLITS)}"

Truth = dict[str, Any]
"""The annotations of a split in COCO format."""


class Sample(NamedTuple):
    """An image with its objects, as `InstanceBatch` holds several; `image_id` is its id in the truth, `size` the original's (height, width)."""

    image: Float[Tensor, "3 height width"]
    labels: Int64[Tensor, "height width"]
    image_id: int
    size: tuple[int, int]
    categories: Int64[Tensor, " label"]


@runtime_checkable
class Split(Protocol):
    """One split. Its index carries the epoch, so that workers that outlive an epoch still draw anew: item `epoch * len + i`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class SplitDataset(Split, Protocol):
    """One split of images with objects; `classes` as `classes_of` gives them."""

    classes: dict[int, str]

    def __getitem__(self, index: int) -> Sample: ...

    def truth(self) -> Truth: ...


def data_root() -> Path:
    """Where data lie: the environment variable RPE_DATA_DIR, else `data`."""
    return Path(os.environ.get("RPE_DATA_DIR", "data"))


def generator_of(*numbers: int) -> np.random.Generator:
    """A random generator that is a function of the numbers alone."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def normal_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): macOS decomposes the letters of file names (NFD), which look the same."""
    return unicodedata.normalize("NFC", name)


def as_names(names: Sequence[str | int] | None, known: Sequence[str]) -> list[str]:
    """The chosen names, all for None. Names are text; YAML makes whole numbers of digits, so 100007 is taken for the name "100007".

    A leading zero is lost before it comes here (YAML reads 0123 as octal, 83): such a name needs quotes.

    Raises:
        UserError: a name that is not known, no name at all.
    """
    spelling = {normal_name(name): name for name in known}
    wanted = [normal_name(str(name)) for name in names or []]
    chosen = (
        list(known) if names is None else list(dict.fromkeys(spelling.get(name, name) for name in wanted))
    )
    unknown = [name for name in wanted if name not in spelling]
    if unknown:
        raise UserError(
            f"names holds {unknown[0]!r}, which is no image of the split ({', '.join(known[:3])} ..); quote a name that begins with 0"
        )
    if not chosen:
        raise UserError("names is empty: leave it out to score the whole split")
    return chosen


class EpochSampler(Sampler[int]):
    """Each rank's share of the items, in an order that is a function of seed and epoch alone.

    Training shuffles and drops the tail that does not fill all ranks; otherwise every item comes once, on exactly one rank.
    Lightning calls `set_epoch`, so an interrupted run goes on with the order that it would have had.
    """

    def __init__(self, length: int, seed: int, shuffle: bool, rank: int, ranks: int) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.rank, self.ranks = rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle:
            return self.length // self.ranks
        return len(range(self.rank, self.length, self.ranks))

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.rank, self.length, self.ranks))
        order = generator_of(self.seed, self.epoch).permutation(self.length) + self.epoch * self.length
        return iter(order[self.rank :: self.ranks][: len(self)].tolist())


def classes_of(truth: Truth) -> dict[int, str]:
    """The ids and names of all categories that the truth lists, by ascending id: the k-th is class k of the program, as 0 is the background."""
    return dict(sorted((category["id"], category["name"]) for category in truth["categories"]))


def distinct_names(classes: Mapping[int, str], taken: str) -> dict[int, str]:
    """Return the names that tables show: with the id where several ids share a name, or bear the one that is taken."""
    count = Counter([taken, *classes.values()])
    return {number: name if count[name] == 1 else f"{name} (id {number})" for number, name in classes.items()}


def collate(samples: list[Sample]) -> InstanceBatch:
    """Samples of one size as a batch."""
    images, labels, image_ids, sizes, categories = zip(*samples, strict=True)
    if len({image.shape for image in images}) > 1:
        raise UserError("the images of a batch differ in size: set data.eval_batch_size=1")
    return InstanceBatch(
        torch.stack(images), torch.stack(labels), list(image_ids), list(sizes), list(categories)
    )


def one_thread(_: int) -> None:
    """Workers beside a training process must not fight it for the cores."""
    torch.set_num_threads(1)


class SplitData(lightning.LightningDataModule):
    """Loaders over the three splits of a dataset, whatever its samples are.

    Args:
        name: of the data, in results and folders.
        batch_size: images of one training step, on each rank.
        eval_batch_size: images of one validation step; more than 1 needs images of one size.
        num_workers: loading processes; 0 loads in the training process.
        seed: of the order of the training images, and of what is drawn for them.
    """

    longest_side: int | None = None
    """What is made of an image file before the network sees it, in evaluation and prediction alike; data without the option leave it so."""

    percentile_range: tuple[float, float] | None = None

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
                raise UserError(f"data.{key} {value} is below {low}")
        self.name = name
        self.batch_size, self.eval_batch_size, self.num_workers, self.seed = (
            batch_size,
            eval_batch_size,
            num_workers,
            seed,
        )
        self.datasets: dict[tuple[str, bool], Split] = {}

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """Samples as a batch."""
        raise NotImplementedError

    @property
    def reader(self) -> Reader:
        """Return what reads an image file as evaluation does."""
        return Reader(self.longest_side, self.percentile_range)

    def open_split(self, split: str, training: bool) -> Split:
        """The dataset of a split, whole images or as training sees them; raises `UserError` where its files are missing or wrong."""
        raise NotImplementedError

    def dataset(self, split: str, training: bool = False) -> Split:
        """The dataset of a split, opened once."""
        if split not in SPLITS:
            raise UserError(UNKNOWN_SPLIT.format(split))
        if (split, training) not in self.datasets:
            self.datasets[split, training] = self.open_split(split, training)
        return self.datasets[split, training]

    def loader(self, split: str, training: bool) -> DataLoader[Any]:
        """A loader in the order of `EpochSampler`."""
        dataset = self.dataset(split, training)
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(len(dataset), self.seed, training, rank, ranks)
        if training and len(sampler) < self.batch_size:
            raise UserError(
                f"{self.name} {split} holds {len(dataset)} images, fewer than data.batch_size {self.batch_size} on each of {ranks} ranks: lower it"
            )
        if len(dataset) < ranks:
            raise UserError(
                f"{self.name} {split} holds {len(dataset)} images, fewer than the {ranks} ranks that share them: lower trainer.devices"
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
            worker_init_fn=one_thread,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader("train", training=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader("val", training=False)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader("test", training=False)


class InstanceData(SplitData):
    """Images with objects, and their truth in COCO format."""

    collate = staticmethod(collate)

    def truth(self, split: str) -> Truth:
        """The annotations of a split in COCO format; where they lie in files of their own, the images are not needed."""
        if split not in SPLITS:
            raise UserError(UNKNOWN_SPLIT.format(split))
        return self.read_truth(split)

    def read_truth(self, split: str) -> Truth:
        """The same of a split that there is; raises `UserError` where its files are missing or wrong."""
        dataset = self.dataset(split)
        assert isinstance(dataset, SplitDataset)
        return dataset.truth()
