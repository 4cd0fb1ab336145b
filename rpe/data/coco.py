"""Read a dataset in COCO format as images and label maps. Crowds are void; images without objects stay."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from rpe.data.annotation import compact, keep_categories, read_split, read_truth
from rpe.data.annotation_check import empty_mask_error
from rpe.data.augment import Augment, crop_inside, draw_start, pad_to_window
from rpe.data.image import (
    check_percentile_range,
    check_sides,
    read_header,
    read_image,
    shrunk_size,
    warn_ambiguous,
)
from rpe.data.listed import name_similar_file
from rpe.data.module import (
    InstanceData,
    Sample,
    SplitDataset,
    list_classes,
    make_generator,
    normal_name,
)
from rpe.rle import decode_mask, mask_area, mask_box
from rpe.structures import BACKGROUND, VOID, Truth, UserError, reflect_indices

HEADERS_READ = 5000
"""Up to this many images, all sizes are compared with the annotations before training starts (0.1 ms each).
Of more, each is compared when it is read."""


class CocoImages:
    """One split of a dataset in COCO format: images and label maps, resized, for training also cropped.

    Args:
        folder: the folder of images.
        file: the annotation file.
        longest_side: larger images are resized to this longest side in pixels; None keeps their size.
        crop: side of the random crop in pixels; None takes whole images.
        seed: of the crops.
        categories: names of the categories that are objects, None for all; the others are background.
        key: the option that names the categories, for messages.
        augment: augmentation of the crops, or None.
        percentile_range: see `read_image`; None keeps the intensities.
        cache: keep decoded images and labels in memory (7 bytes a pixel in each worker).
        skip_empty: accept masks without a pixel.
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
        self.classes = list_classes(truth)
        self.annotations = compact(truth)
        self.check_files()

    def read_split(self, categories: Sequence[str] | None, key: str) -> tuple[Truth, set[int]]:
        """Return the annotations of these categories, and the categories' ids."""
        return read_split(self.file, categories, key, self.skip_empty)

    def __len__(self) -> int:
        return len(self.annotations)

    def check_files(self) -> None:
        """Check that all images exist. Check the sizes of up to `HEADERS_READ` images too.

        Raises:
            UserError: naming the folder or file.
        """
        if not self.folder.is_dir():
            raise UserError(
                f"image folder {self.folder} must exist, got none. "
                "Set data.root or RPE_DATA_DIR to the dataset's folder."
            )
        self.annotations.names = match_file_spelling(self.folder, self.annotations.names)
        names = [name.decode() for name in self.annotations.names]
        present = {path.name for path in self.folder.iterdir()}
        absent = [name for name in names if name not in present and not (self.folder / name).is_file()]
        if absent:
            first = self.folder / absent[0]
            raise UserError(
                f"image {first} must exist, as it is annotated, got none "
                f"({len(absent)} such{name_similar_file(first)}). "
                f"Remove it from {self.file.name}, or complete the data "
                "(COCO's own: python -m rpe.tools.download name=coco)."
            )
        if len(names) <= HEADERS_READ:
            self.check_headers()

    def check_headers(self) -> None:
        """Compare the image files' headers with the annotations.

        Raises:
            UserError: an image of several pages or another size, or one whose EXIF orientation is ambiguous
                while masks of another image fit its stored pixels alone.
        """
        headers = {index: read_header(self.image_path(index)) for index in range(len(self))}
        turns = {
            index: header.turn(self.image_path(index), self.annotated_size(index))
            for index, header in headers.items()
        }
        ambiguous = [index for index, header in headers.items() if header.ambiguous]
        as_stored = [index for index, header in headers.items() if turns[index] != header.orientation]
        if ambiguous and as_stored:
            raise UserError(
                f"image {self.image_path(ambiguous[0])} must have no EXIF orientation, got "
                f"{headers[ambiguous[0]].orientation}: its size fits upright and stored pixels, and masks of "
                f"{self.image_path(as_stored[0]).name} fit stored pixels alone. "
                "Remove the tag, or rotate the pixels by it."
            )
        if ambiguous:
            warn_ambiguous(self.image_path(ambiguous[0]), headers[ambiguous[0]].orientation)

    def image_path(self, index: int) -> Path:
        """Return the image file."""
        return self.folder / self.annotations.names[index].decode()

    def annotated_size(self, index: int) -> tuple[int, int]:
        """Return the annotated (height, width)."""
        height, width = self.annotations.sizes[index].tolist()
        return height, width

    def read_image(self, index: int) -> UInt8[Tensor, "3 height width"]:
        """Return the pixels in the orientation of the annotations, stretched by `percentile_range`."""
        return read_image(self.image_path(index), self.percentile_range, self.annotated_size(index))

    def read(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask, Int64[np.ndarray, " label"]]:
        """Return a whole image, its labels, and the class of each label."""
        image = tv_tensors.Image(self.read_image(index))
        labels, categories = self.read_labels(index)
        return image, tv_tensors.Mask(torch.from_numpy(labels)), categories

    def read_cached(
        self, index: int
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask, Int64[np.ndarray, " label"]]:
        """Return the result of `read`, kept in memory after the first call in a process."""
        if index not in self.decoded:
            image, mask, classes = self.read(index)
            self.decoded[index] = image.as_subclass(Tensor), mask.as_subclass(Tensor).to(torch.int32), classes
        pixels, labels, categories = self.decoded[index]
        return tv_tensors.Image(pixels), tv_tensors.Mask(labels.long()), categories

    def read_labels(
        self, index: int
    ) -> tuple[Int64[np.ndarray, "height width"], Int64[np.ndarray, " label"]]:
        """Return an image's labels, and the class of each label, beginning with 0 for the background.

        Crowds are void. Where objects overlap, the one with fewer pixels is on top. Labels have no gaps.

        Raises:
            UserError: a mask has no pixel, unless `skip_empty`.
        """
        annotations = self.annotations
        members = range(int(annotations.first[index]), int(annotations.first[index + 1]))
        codes = {annotation: annotations.mask(annotation, index) for annotation in members}
        # not by the field `area`, which may be a placeholder
        order = sorted(
            members,
            key=lambda annotation: (
                not annotations.crowds[annotation],
                -mask_area(codes[annotation]),
                annotation,
            ),
        )
        labels = np.full(tuple(annotations.sizes[index]), BACKGROUND, dtype=np.int64)
        number, categories = BACKGROUND, [BACKGROUND]
        class_of = {category: number for number, category in enumerate(self.classes, start=1)}
        for annotation in order:
            code = codes[annotation]
            left, top, width, height = mask_box(code)
            if not width and not self.skip_empty:
                raise empty_mask_error(int(annotations.ids[annotation]), self.file)
            if not annotations.crowds[annotation]:
                number += 1
                categories.append(class_of[int(annotations.categories[annotation])])
            # only inside its box, as an image may have hundreds of small objects
            box = (slice(top, top + height), slice(left, left + width))
            labels[box][decode_mask(code)[box]] = VOID if annotations.crowds[annotation] else number
        seen = np.unique(labels[labels > BACKGROUND])
        return renumber(labels), np.array(categories, dtype=np.int64)[np.append(BACKGROUND, seen)]

    def __getitem__(self, index: int) -> Sample:
        epoch, position = divmod(index, len(self))
        image, labels, categories = self.read_cached(position) if self.cache else self.read(position)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        random = make_generator(self.seed, 1, epoch, position)
        pixels, ids, classes = prepare_image(
            image, labels, categories, self.longest_side, self.crop, self.augment, random
        )
        return Sample(pixels, ids, int(self.annotations.image_ids[position]), size, classes)

    def truth(self) -> Truth:
        """Read the split's annotations anew. Only evaluation needs them, so workers do not keep them."""
        return keep_categories(read_truth(self.file), self.categories)


def match_file_spelling(folder: Path, names: np.ndarray) -> np.ndarray:
    """Return the names as the file system spells them: it may compose or decompose accented letters."""
    spelled = [name.decode() for name in names]
    foreign = [
        position
        for position, name in enumerate(spelled)
        if not name.isascii() and not (folder / name).is_file()
    ]
    listed: dict[Path, dict[str, str]] = {}
    for position in foreign:
        parent = (folder / spelled[position]).parent
        if parent not in listed:
            listed[parent] = (
                {normal_name(path.name): path.name for path in parent.iterdir()} if parent.is_dir() else {}
            )
        name = Path(spelled[position])
        spelled[position] = str(name.parent / listed[parent].get(normal_name(name.name), name.name))
    return np.array([name.encode() for name in spelled]) if foreign else names


def prepare_image(
    image: tv_tensors.Image,
    labels: tv_tensors.Mask,
    categories: Int64[np.ndarray, " label"],
    longest_side: int | None,
    crop: int | None,
    augment: Augment | None,
    random: np.random.Generator,
) -> tuple[Float[Tensor, "3 height width"], Int64[Tensor, "height width"], Int64[Tensor, " kept"]]:
    """Resize an image to `longest_side` if it is larger, and take a random augmented crop (None: no crop).

    Args:
        image: as it is read.
        labels: of its pixels.
        categories: the class of each label.
        longest_side: a larger image is resized to it; None keeps the size.
        crop: side of the random square; None takes the whole image.
        augment: changes the crop; None changes nothing.
        random: generator of all choices.

    Returns:
        The image in [0, 1], its labels without gaps, and the classes of the remaining labels.
    """
    smaller = shrunk_size((image.shape[-2], image.shape[-1]), longest_side)
    if smaller is not None:
        image = transform.resize(image, smaller, antialias=True)
        # not transform.resize(Mask): its "nearest" shifts the labels by up to half a pixel against the image
        labels = tv_tensors.Mask(
            transform.resize_image(
                labels.as_subclass(Tensor)[None], smaller, InterpolationMode.NEAREST_EXACT
            )[0]
        )
    if crop is not None:
        image, labels = (
            crop_randomly(image, labels, crop, random)
            if augment is None
            else augment(image, labels, crop, random)
        )
    pixels = transform.to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
    ids = labels.as_subclass(Tensor).numpy()
    kept = np.append(BACKGROUND, np.unique(ids[ids > BACKGROUND]))
    return pixels, torch.from_numpy(renumber(ids)), torch.from_numpy(categories[kept])


def crop_randomly(
    image: Tensor, labels: Tensor, side: int, random: np.random.Generator
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Crop a random square. Beyond the image it shows the reflection, labelled void."""
    corner = [draw_start(length, side, random) for length in labels.shape]
    rows, columns = (
        reflect_indices(start, side, length) for start, length in zip(corner, labels.shape, strict=True)
    )
    ids = pad_to_window(crop_inside(labels[None], corner, side), corner, side, VOID)[0]
    return tv_tensors.Image(image[:, rows[:, None], columns]), tv_tensors.Mask(ids)


def renumber(labels: Int64[np.ndarray, "height width"]) -> Int64[np.ndarray, "height width"]:
    """Renumber object ids to 1..n without gaps, in their order. Void and background stay."""
    present = np.unique(labels[labels > BACKGROUND])
    number = np.zeros(max(int(labels.max()), 0) + 1, dtype=np.int64)
    number[present] = np.arange(1, len(present) + 1)
    return np.where(labels == VOID, VOID, number[labels.clip(min=0)])


def find_existing(paths: Iterable[Path]) -> Path:
    """Return the first path that exists, else the first path."""
    candidates = list(paths)
    return next((path for path in candidates if path.exists()), candidates[0])


class Coco(InstanceData):
    """A dataset in COCO format: `<root>/annotations/instances_<split>.json` and `<root>/<split>/`.

    Both names may end in 2017. Without a test split the validation split is used (COCO's test truth is not
    public).
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
        self.percentile_range, self.cache = check_percentile_range(percentile_range), cache
        if empty_masks not in ("refuse", "skip"):
            raise UserError(f"data.empty_masks must be refuse or skip, got {empty_masks!r}. Choose one.")
        self.skip_empty = empty_masks == "skip"
        check_sides(longest_side, crop)
        self.root, self.augment = Path(root), augment
        self.longest_side, self.crop = longest_side, crop
        self.train_categories, self.eval_categories = train_categories, eval_categories

    def read_truth(self, split: str) -> Truth:
        """Read a split's annotations of `eval_categories`, without the images."""
        return read_split(
            self.find_paths(split)[1], self.eval_categories, "eval_categories", self.skip_empty
        )[0]

    def find_paths(self, split: str) -> tuple[Path, Path]:
        """Return the image folder and annotation file of a split.

        Raises:
            UserError: `root` does not exist.
        """
        if not self.root.is_dir():
            raise UserError(
                f"data.root must be a folder, got {self.root}. "
                f"Set data.root=<folder>, or RPE_DATA_DIR to the folder that holds {self.root.name}"
            )
        names = [split, f"{split}2017"] + (["val", "val2017"] if split == "test" else [])
        file = find_existing(self.root / "annotations" / f"instances_{name}.json" for name in names)
        return find_existing(self.root / name for name in names), file

    def open_split(self, split: str, training: bool) -> SplitDataset:
        """Open a split with its folder of images; see `SplitData.open_split`."""
        folder, file = self.find_paths(split)
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
