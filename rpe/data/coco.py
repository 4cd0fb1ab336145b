"""Any dataset in COCO format: images and label maps, resized and cropped; crowds become void, images without objects are kept."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from rpe.data.annotation import compact, only_categories, read_split, read_truth
from rpe.data.annotation_check import empty
from rpe.data.augment import Augment, placed, reflected, start_of, within
from rpe.data.image import (
    check_percentile_range,
    check_sides,
    read_header,
    read_image,
    smaller_size,
    tell_undecided,
)
from rpe.data.listed import instead_of
from rpe.data.module import InstanceData, Sample, SplitDataset, Truth, classes_of, generator_of, normal_name
from rpe.structures import BACKGROUND, VOID, UserError

HEADERS_READ = 5000
"""Up to so many images, every file's size is compared with the annotations before training starts (0.1 ms each); beyond, when it is read."""


class CocoImages:
    """One split: image and label map, resized, and cropped at random in training.

    Args:
        folder: of the images.
        file: the annotations.
        longest_side: images are made smaller until this fits; None keeps them.
        crop: side of the random crop; None takes whole images.
        seed: of the crops.
        categories: names of the categories that are objects; the others are background.
        key: of the option that named them, for messages.
        augment: what is done to the crops; None leaves them as they are.
        percentile_range: see `read_image`; None leaves the intensities as they are.
        cache: keep decoded images and labels in memory (7 bytes a pixel in each worker), for small datasets with many objects.
        skip_empty: a mask without a pixel is no fault.
    """

    def __init__(
        self,
        folder: Path,
        file: Path,
        longest_side: int | None,
        crop: int | None,
        seed: int,
        categories: Sequence[str] | None,
        key: str,
        augment: Augment | None = None,
        percentile_range: tuple[float, float] | None = None,
        cache: bool = False,
        skip_empty: bool = False,
    ) -> None:
        self.percentile_range, self.cache, self.skip_empty = percentile_range, cache, skip_empty
        self.decoded: dict[int, tuple[Tensor, Tensor, Int64[np.ndarray, " label"]]] = {}
        self.folder, self.file, self.augment = folder, file, augment
        self.longest_side, self.crop, self.seed = longest_side, crop, seed
        truth, self.categories = self.read_split(categories, key)
        self.classes = classes_of(truth)
        self.annotations = compact(truth)
        self.check_files()

    def read_split(self, categories: Sequence[str] | None, key: str) -> tuple[Truth, set[int]]:
        """Return the truth of these categories, and their ids."""
        return read_split(self.file, categories, key, self.skip_empty)

    def __len__(self) -> int:
        return len(self.annotations)

    def check_files(self) -> None:
        """All images exist, and where they are few, have the annotated size.

        Raises:
            UserError: naming the folder or file.
        """
        if not self.folder.is_dir():
            raise UserError(
                f"image folder {self.folder} does not exist: set data.root or RPE_DATA_DIR to where it lies"
            )
        self.annotations.names = spelled_as_files(self.folder, self.annotations.names)
        names = [name.decode() for name in self.annotations.names]
        there = {path.name for path in self.folder.iterdir()}
        absent = [name for name in names if name not in there and not (self.folder / name).is_file()]
        if absent:
            raise UserError(
                f"image {self.folder / absent[0]} is annotated but absent ({len(absent)} such{instead_of(self.folder / absent[0])}): "
                f"take it out of {self.file.name}, or complete the data "
                "(of COCO itself, python -m rpe.tools.download name=coco does)"
            )
        if len(names) <= HEADERS_READ:
            self.check_headers()

    def check_headers(self) -> None:
        """Compare the image files' headers with the annotations.

        Raises:
            UserError: an image of several pages or another size; or one whose size does not tell whether its masks were drawn before it was turned
                upright by its EXIF orientation, in a set where others show that theirs were.
        """
        headers = {index: read_header(self.path_of(index)) for index in range(len(self))}
        turns = {
            index: header.turn(self.path_of(index), self.size_of(index)) for index, header in headers.items()
        }
        unsure = [index for index, header in headers.items() if header.undecided]
        as_stored = [index for index, header in headers.items() if turns[index] != header.orientation]
        if unsure and as_stored:
            raise UserError(
                f"image {self.path_of(unsure[0])} has the EXIF orientation {headers[unsure[0]].orientation}, and its size does not tell whether its "
                f"masks were drawn on the stored pixels, as those of {self.path_of(as_stored[0]).name} were: remove the tag, or turn the pixels by it"
            )
        if unsure:
            tell_undecided(self.path_of(unsure[0]), headers[unsure[0]].orientation)

    def path_of(self, index: int) -> Path:
        """The image file."""
        return self.folder / self.annotations.names[index].decode()

    def size_of(self, index: int) -> tuple[int, int]:
        """The annotated (height, width)."""
        height, width = self.annotations.sizes[index].tolist()
        return height, width

    def read_image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """The pixels, lying as they were annotated, stretched where that is wanted."""
        return read_image(self.path_of(index), self.percentile_range, self.size_of(index))

    def read(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask, Int64[np.ndarray, " label"]]:
        """Image, labels and the class of each label, whole."""
        image = tv_tensors.Image(self.read_image(index))
        labels, categories = self.read_labels(index)
        return image, tv_tensors.Mask(torch.from_numpy(labels)), categories

    def cached(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask, Int64[np.ndarray, " label"]]:
        """The same, kept decoded in this process after the first time."""
        if index not in self.decoded:
            whole, painted, classes = self.read(index)
            self.decoded[index] = (
                whole.as_subclass(Tensor),
                painted.as_subclass(Tensor).to(torch.int32),
                classes,
            )
        image, labels, categories = self.decoded[index]
        return tv_tensors.Image(image), tv_tensors.Mask(labels.long()), categories

    def read_labels(
        self, index: int
    ) -> tuple[Int64[np.ndarray, "height width"], Int64[np.ndarray, " label"]]:
        """Crowds are void; of objects that overlap the one of fewer pixels is on top; ids are dense. And the class of each label, the background's 0
        first."""
        annotations = self.annotations
        mine = range(int(annotations.first[index]), int(annotations.first[index + 1]))
        codes = {annotation: annotations.mask(annotation, index) for annotation in mine}
        # never by the field `area`, which may be a placeholder
        order = sorted(
            mine,
            key=lambda annotation: (
                not annotations.crowds[annotation],
                -int(coco_mask.area(codes[annotation])),
                annotation,
            ),
        )
        labels = np.full(tuple(annotations.sizes[index]), BACKGROUND, dtype=np.int64)
        number, categories = BACKGROUND, [BACKGROUND]
        class_of = {category: number for number, category in enumerate(self.classes, start=1)}
        for annotation in order:
            code = codes[annotation]
            left, top, width, height = (int(value) for value in coco_mask.toBbox(code))
            if not width and not self.skip_empty:
                raise empty(int(annotations.ids[annotation]), self.file)
            if not annotations.crowds[annotation]:
                number += 1
                categories.append(class_of[int(annotations.categories[annotation])])
            # only inside its box, as an image may have hundreds of small ones
            box = (slice(top, top + height), slice(left, left + width))
            labels[box][coco_mask.decode(code)[box].astype(bool)] = (
                VOID if annotations.crowds[annotation] else number
            )
        seen = np.unique(labels[labels > BACKGROUND])
        return dense(labels), np.array(categories, dtype=np.int64)[np.append(BACKGROUND, seen)]

    def __getitem__(self, index: int) -> Sample:
        epoch, place = divmod(index, len(self))
        image, labels, categories = self.cached(place) if self.cache else self.read(place)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        random = generator_of(self.seed, 1, epoch, place)
        pixels, dense_labels, of_labels = prepared(
            image, labels, categories, self.longest_side, self.crop, self.augment, random
        )
        return Sample(pixels, dense_labels, int(self.annotations.image_ids[place]), size, of_labels)

    def truth(self) -> Truth:
        """The split's annotations, read anew: only evaluation needs them, and not in every worker."""
        return only_categories(read_truth(self.file), self.categories)


def spelled_as_files(folder: Path, names: np.ndarray) -> np.ndarray:
    """Return the names as the file system spells them: letters with marks may be composed in one place and decomposed in the other."""
    spelled = [name.decode() for name in names]
    foreign = [
        place for place, name in enumerate(spelled) if not name.isascii() and not (folder / name).is_file()
    ]
    listed: dict[Path, dict[str, str]] = {}
    for place in foreign:
        parent = (folder / spelled[place]).parent
        if parent not in listed:
            listed[parent] = (
                {normal_name(path.name): path.name for path in parent.iterdir()} if parent.is_dir() else {}
            )
        name = Path(spelled[place])
        spelled[place] = str(name.parent / listed[parent].get(normal_name(name.name), name.name))
    return np.array([name.encode() for name in spelled]) if foreign else names


def prepared(
    image: tv_tensors.Image,
    labels: tv_tensors.Mask,
    categories: Int64[np.ndarray, " label"],
    longest_side: int | None,
    crop: int | None,
    augment: Augment | None,
    random: np.random.Generator,
) -> tuple[Float[Tensor, "3 height width"], Int64[Tensor, "height width"], Int64[Tensor, " kept"]]:
    """What the network sees of an image: made smaller until `longest_side` fits, then a random `crop`, augmented or not (None: whole).

    Returns:
        The image in [0, 1], its dense labels, and `categories` of those labels that are left.
    """
    smaller = smaller_size((image.shape[-2], image.shape[-1]), longest_side)
    if smaller is not None:
        image = transform.resize(image, smaller, antialias=True)
        # not transform.resize(Mask): its "nearest" takes the corner of a cell, which shifts the labels against the image by up to half a pixel
        labels = tv_tensors.Mask(
            transform.resize_image(
                labels.as_subclass(Tensor)[None], smaller, InterpolationMode.NEAREST_EXACT
            )[0]
        )
    if crop is not None:
        image, labels = (
            cropped(image, labels, crop, random) if augment is None else augment(image, labels, crop, random)
        )
    pixels = transform.to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
    ids = labels.as_subclass(Tensor).numpy()
    kept = np.append(BACKGROUND, np.unique(ids[ids > BACKGROUND]))
    return pixels, torch.from_numpy(dense(ids)), torch.from_numpy(categories[kept])


def cropped(
    image: Tensor, labels: Tensor, side: int, random: np.random.Generator
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Cut a random square; beyond the image it is filled with the image's reflection, and void."""
    corner = [start_of(length, side, random) for length in labels.shape]
    rows, columns = (
        reflected(start, side, length) for start, length in zip(corner, labels.shape, strict=True)
    )
    ids = placed(within(labels[None], corner, side), corner, side, VOID)[0]
    return tv_tensors.Image(image[:, rows[:, None], columns]), tv_tensors.Mask(ids)


def dense(labels: Int64[np.ndarray, "height width"]) -> Int64[np.ndarray, "height width"]:
    """Object ids 1..n without gaps, in their order; void and background stay."""
    present = np.unique(labels[labels > BACKGROUND])
    number = np.zeros(max(int(labels.max()), 0) + 1, dtype=np.int64)
    number[present] = np.arange(1, len(present) + 1)
    return np.where(labels == VOID, VOID, number[labels.clip(min=0)])


def first_that_exists(paths: Iterable[Path]) -> Path:
    """The first path that exists, else the first."""
    candidates = list(paths)
    return next((path for path in candidates if path.exists()), candidates[0])


class Coco(InstanceData):
    """A dataset in COCO format under `root`: `annotations/instances_<split>.json` and the images in `<split>/`; both may end in 2017.

    Without a test split (COCO's has no public truth) the validation split stands in for it.
    """

    def __init__(
        self,
        name: str,
        root: str,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        longest_side: int | None,
        crop: int,
        train_categories: list[str] | None,
        eval_categories: list[str] | None,
        augment: Augment | None,
        empty_masks: str,
        percentile_range: list[float] | None,
        cache: bool,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, num_workers, seed)
        self.percentile_range, self.cache = (
            None if percentile_range is None else check_percentile_range(percentile_range),
            cache,
        )
        if empty_masks not in ("refuse", "skip"):
            raise UserError(f"data.empty_masks {empty_masks!r} is unknown: choose refuse or skip")
        self.skip_empty = empty_masks == "skip"
        check_sides(longest_side, crop)
        self.root, self.augment = Path(root), augment
        self.longest_side, self.crop = longest_side, crop
        self.train_categories, self.eval_categories = train_categories, eval_categories

    def read_truth(self, split: str) -> Truth:
        return read_split(self.places(split)[1], self.eval_categories, "eval_categories", self.skip_empty)[0]

    def places(self, split: str) -> tuple[Path, Path]:
        """Image folder and annotation file of a split.

        Raises:
            UserError: there is no such root.
        """
        if not self.root.is_dir():
            raise UserError(
                f"data folder {self.root} does not exist: set data.root=<folder>, or RPE_DATA_DIR to the folder that holds {self.root.name}"
            )
        names = [split, f"{split}2017"] + (["val", "val2017"] if split == "test" else [])
        file = first_that_exists(self.root / "annotations" / f"instances_{name}.json" for name in names)
        return first_that_exists(self.root / name for name in names), file

    def open_split(self, split: str, training: bool) -> SplitDataset:
        folder, file = self.places(split)
        return CocoImages(
            folder,
            file,
            self.longest_side,
            self.crop if training else None,
            self.seed,
            self.train_categories if training else self.eval_categories,
            "train_categories" if training else "eval_categories",
            self.augment if training else None,
            self.percentile_range,
            self.cache,
            self.skip_empty,
        )
