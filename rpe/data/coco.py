"""Any dataset in COCO format: polygons, compressed and uncompressed run-length masks, crowds, images without objects."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from rpe.data.augment import Augment
from rpe.data.module import InstanceData, Sample, SplitDataset, Truth, generator_of
from rpe.structures import BACKGROUND, VOID, InputError, RunLength

HEADERS_READ = 5000
"""Up to so many images, every file's size is compared with the annotations before training starts (0.1 ms each); beyond, when it is read."""


@dataclass
class Annotations:
    """All annotations of a split in a few arrays: as Python objects they would grow every worker's memory page by page.

    An annotation's mask lies in `codes[start:start + length]` as JSON text. Annotations are sorted by image; those of image i are
    `first[i]:first[i + 1]`.
    """

    image_ids: Int64[np.ndarray, " image"]
    sizes: Int64[np.ndarray, "image 2"]
    names: np.ndarray
    first: Int64[np.ndarray, " image_and_one"]
    categories: Int64[np.ndarray, " annotation"]
    crowds: np.ndarray
    areas: Float[np.ndarray, " annotation"]
    starts: Int64[np.ndarray, " annotation_and_one"]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def mask(self, annotation: int, image: int) -> np.ndarray:
        """The mask of an annotation, decoded."""
        code = json.loads(self.codes[self.starts[annotation] : self.starts[annotation + 1]].tobytes())
        height, width = (int(length) for length in self.sizes[image])
        return coco_mask.decode(run_length_of(code, height, width)).astype(bool)


def run_length_of(segmentation: Any, height: int, width: int) -> RunLength:
    """Polygons, uncompressed or compressed run lengths as compressed run lengths."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def read_truth(file: Path) -> Truth:
    """An annotation file, checked for what training and evaluation rely on.

    Raises:
        InputError: no such file, not JSON, not COCO's layout, no annotation, an annotation that fits no image.
    """
    if not file.is_file():
        raise InputError(f"annotation file {file} does not exist: set data.root or RPE_DATA_DIR to where it lies")
    try:
        truth: Truth = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"annotation file {file} is not JSON ({error}): is the download complete?") from error
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(truth, dict) or key not in truth]
    if missing:
        raise InputError(f"annotation file {file} has no {missing[0]}: it is not in COCO's instance format")
    if not truth["annotations"]:
        raise InputError(f"annotation file {file} holds no annotation at all: name the split's instance file")
    for image in truth["images"]:
        refuse_missing(image, ("id", "height", "width", "file_name"), "an image", file)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    if len(sizes) != len(truth["images"]):
        raise InputError(f"annotation file {file} names an image id twice")
    for annotation in truth["annotations"]:
        check_annotation(annotation, sizes, file)
        annotation.setdefault("iscrowd", 0)
    return truth


def refuse_missing(entry: dict[str, Any], keys: Sequence[str], what: str, file: Path) -> None:
    """Refuse an entry that lacks a key.

    Raises:
        InputError: naming the entry and the key.
    """
    missing = [key for key in keys if key not in entry]
    if missing:
        raise InputError(f"{what} in {file} has no {missing[0]}: {str(entry)[:100]}")


def check_annotation(annotation: dict[str, Any], sizes: dict[int, tuple[int, int]], file: Path) -> None:
    """Refuse an annotation that lies in no image, or is made for another size."""
    where = f"annotation {annotation.get('id')} in {file}"
    refuse_missing(annotation, ("id", "image_id", "category_id", "area"), "an annotation", file)
    if annotation.get("image_id") not in sizes:
        raise InputError(f"{where} names image {annotation.get('image_id')}, which the file does not list")
    code = annotation.get("segmentation")
    if not code:
        raise InputError(f"{where} has no segmentation: instance masks are needed, boxes are not enough")
    if isinstance(code, list) and any(len(ring) < 6 or len(ring) % 2 for ring in code):
        raise InputError(f"{where} has a polygon of fewer than three corners")
    if isinstance(code, dict) and not {"size", "counts"} <= code.keys():
        raise InputError(f"{where} has a run-length mask without size or counts")
    if isinstance(code, dict) and tuple(code["size"]) != sizes[annotation["image_id"]]:
        raise InputError(
            f"{where} has a mask of size {list(code['size'])}, but its image {annotation['image_id']} is {list(sizes[annotation['image_id']])} (height, width)"
        )


def category_ids(truth: Truth, names: Sequence[str] | None, key: str) -> set[int]:
    """The ids of the named categories; all for None.

    Raises:
        InputError: a name that the file does not hold.
    """
    by_name = {category["name"]: category["id"] for category in truth["categories"]}
    unknown = [name for name in names or [] if name not in by_name]
    if unknown:
        raise InputError(f"data.{key} names {unknown[0]!r}, which is no category of the data: it has {', '.join(list(by_name)[:8])} ...")
    return {by_name[name] for name in names} if names is not None else set(by_name.values())


def only_categories(truth: Truth, chosen: set[int]) -> Truth:
    """The truth without the annotations of other categories; all images stay."""
    return {**truth, "annotations": [annotation for annotation in truth["annotations"] if annotation["category_id"] in chosen]}


def compact(truth: Truth) -> Annotations:
    """The truth in arrays."""
    images = sorted(truth["images"], key=lambda image: image["id"])
    place = {image["id"]: index for index, image in enumerate(images)}
    annotations = sorted(truth["annotations"], key=lambda annotation: place[annotation["image_id"]])
    codes = [json.dumps(annotation["segmentation"]).encode() for annotation in annotations]
    owners = np.array([place[annotation["image_id"]] for annotation in annotations], dtype=np.int64)
    return Annotations(
        image_ids=np.array([image["id"] for image in images], dtype=np.int64),
        sizes=np.array([(image["height"], image["width"]) for image in images], dtype=np.int64).reshape(-1, 2),
        names=np.array([image["file_name"].encode() for image in images]),
        first=np.searchsorted(owners, np.arange(len(images) + 1)).astype(np.int64),
        categories=np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64),
        crowds=np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], dtype=bool),
        areas=np.array([annotation["area"] for annotation in annotations], dtype=np.float64),
        starts=np.concatenate([[0], np.cumsum([len(code) for code in codes])]).astype(np.int64),
        codes=np.frombuffer(b"".join(codes), dtype=np.uint8),
    )


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
    ) -> None:
        self.folder, self.file, self.augment = folder, file, augment
        self.longest_side, self.crop, self.seed = longest_side, crop, seed
        whole = read_truth(file)
        self.categories = category_ids(whole, categories, key)
        self.annotations = compact(only_categories(whole, self.categories))
        self.check_files()

    def __len__(self) -> int:
        return len(self.annotations)

    def check_files(self) -> None:
        """All images exist, and where they are few, have the annotated size.

        Raises:
            InputError: naming the folder or file.
        """
        if not self.folder.is_dir():
            raise InputError(f"image folder {self.folder} does not exist: set data.root or RPE_DATA_DIR to where it lies")
        names = [name.decode() for name in self.annotations.names]
        there = {path.name for path in self.folder.iterdir()}
        absent = [name for name in names if name not in there and not (self.folder / name).is_file()]
        if absent:
            raise InputError(
                f"image {self.folder / absent[0]} is annotated but absent ({len(absent)} such): complete the download or take it out of {self.file.name}"
            )
        if len(names) <= HEADERS_READ:
            for index in range(len(names)):
                self.open_image(index).close()

    def open_image(self, index: int) -> Image.Image:
        """The image file, its header read and compared with the annotations."""
        path = self.folder / self.annotations.names[index].decode()
        height, width = self.annotations.sizes[index].tolist()
        try:
            image = Image.open(path)
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"image {path} does not decode ({type(error).__name__}): replace or remove it") from error
        if image.size != (width, height):
            raise InputError(f"image {path} is {image.size[1]} x {image.size[0]}, but annotated as {height} x {width} (height x width)")
        return image

    def read_image(self, index: int) -> Tensor:
        """uint8 `[3, height, width]`."""
        with self.open_image(index) as image:
            try:
                pixels = np.array(image.convert("RGB"))
            except (OSError, SyntaxError) as error:
                raise InputError(f"image {image.filename} does not decode ({error}): replace or remove it") from error  # type: ignore[attr-defined]
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def read_labels(self, index: int) -> Int64[np.ndarray, "height width"]:
        """Crowds are void; of objects that overlap the smaller is on top; ids are dense."""
        annotations = self.annotations
        mine = range(int(annotations.first[index]), int(annotations.first[index + 1]))
        order = sorted(mine, key=lambda annotation: (not annotations.crowds[annotation], -annotations.areas[annotation], annotation))
        labels = np.full(tuple(annotations.sizes[index]), BACKGROUND, dtype=np.int64)
        number = BACKGROUND
        for annotation in order:
            mask = annotations.mask(annotation, index)
            if annotations.crowds[annotation]:
                labels[mask] = VOID
            else:
                number += 1
                labels[mask] = number
        return dense(labels)

    def __getitem__(self, index: int) -> Sample:
        epoch, place = divmod(index, len(self))
        image = tv_tensors.Image(self.read_image(place))
        labels = tv_tensors.Mask(torch.from_numpy(self.read_labels(place)))
        size = (int(image.shape[-2]), int(image.shape[-1]))
        pixels, dense_labels, _ = prepared(image, labels, self.longest_side, self.crop, self.augment, generator_of(self.seed, 1, epoch, place))
        return pixels, dense_labels, int(self.annotations.image_ids[place]), size

    def truth(self) -> Truth:
        """The split's annotations, read anew: only evaluation needs them, and not in every worker."""
        return only_categories(read_truth(self.file), self.categories)


def prepared(
    image: tv_tensors.Image, labels: tv_tensors.Mask, longest_side: int | None, crop: int | None, augment: Augment | None, random: np.random.Generator
) -> tuple[Float[Tensor, "3 height width"], Int64[Tensor, "height width"], Int64[np.ndarray, " object"]]:
    """What the network sees of an image: made smaller until `longest_side` fits, then a random `crop`, augmented or not (None: whole).

    Returns:
        The image in [0, 1], its dense labels, and for each object the id that it had before.
    """
    size = image.shape[-2:]
    if longest_side is not None and max(size) > longest_side:
        shorter = max(1, round(min(size) * longest_side / max(size)))
        smaller = [longest_side, shorter] if size[0] >= size[1] else [shorter, longest_side]
        image = transform.resize(image, smaller, antialias=True)
        # not transform.resize(Mask): its "nearest" takes the corner of a cell, which shifts the labels against the image by up to half a pixel
        labels = tv_tensors.Mask(transform.resize_image(labels.as_subclass(Tensor)[None], smaller, InterpolationMode.NEAREST_EXACT)[0])
    if crop is not None:
        image, labels = cropped(image, labels, crop, random) if augment is None else augment(image, labels, crop, random)
    pixels = transform.to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
    ids = labels.as_subclass(Tensor).numpy()
    return pixels, torch.from_numpy(dense(ids)), np.unique(ids[ids > BACKGROUND])


def cropped(image: Tensor, labels: Tensor, side: int, random: np.random.Generator) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """A random square; what lies outside the image is black and void."""
    height, width = image.shape[-2:]
    below, right = max(0, side - height), max(0, side - width)
    image = transform.pad(image, [0, 0, right, below])
    labels = transform.pad(labels, [0, 0, right, below], fill=VOID)
    top = int(random.integers(0, image.shape[-2] - side + 1))
    left = int(random.integers(0, image.shape[-1] - side + 1))
    box = (slice(top, top + side), slice(left, left + side))
    return tv_tensors.Image(image[:, *box]), tv_tensors.Mask(labels[*box])


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
        workers: int,
        seed: int,
        longest_side: int | None,
        crop: int,
        train_categories: list[str] | None,
        eval_categories: list[str] | None,
        augment: Augment | None,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, workers, seed)
        self.root, self.augment = Path(root), augment
        self.longest_side, self.crop = longest_side, crop
        self.train_categories, self.eval_categories = train_categories, eval_categories

    def open_split(self, split: str, training: bool) -> SplitDataset:
        if not self.root.is_dir():
            raise InputError(
                f"data folder {self.root} does not exist: set data.root=<folder>, or RPE_DATA_DIR to the folder that holds {self.root.name}"
            )
        names = [split, f"{split}2017"] + (["val", "val2017"] if split == "test" else [])
        file = first_that_exists(self.root / "annotations" / f"instances_{name}.json" for name in names)
        folder = first_that_exists(self.root / name for name in names)
        return CocoImages(
            folder,
            file,
            self.longest_side,
            self.crop if training else None,
            self.seed,
            self.train_categories if training else self.eval_categories,
            "train_categories" if training else "eval_categories",
            self.augment if training else None,
        )
