"""Read PASCAL VOC 2012 (Everingham et al.) with its object masks, and SBD for the larger training set."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from rpe.data.annotation import make_annotation
from rpe.data.augment import Augment, check_probability
from rpe.data.coco import HEADERS_READ, prepare_image
from rpe.data.copy_paste import paste
from rpe.data.image import check_sides, read_image
from rpe.data.listed import name_similar_file
from rpe.data.module import InstanceData, Sample, SplitDataset, make_generator
from rpe.data.sbd import check_file, read_sbd
from rpe.data.voc_mask import CATEGORIES, LabelsAndClasses, check_headers, combine_maps, read_mask
from rpe.rle import encode_mask
from rpe.structures import BACKGROUND, VOID, Truth, UserError

SBD_READ = 300
"""Up to this many images, SBD's files are read before training (9 ms each; 9,000 take over a minute)."""


def read_names(file: Path) -> list[str]:
    """Read the image names of a split.

    Raises:
        UserError: the file is missing or empty, a name is malformed or occurs twice.
    """
    if not file.is_file():
        raise UserError(
            f"split file {file} must exist, got none. Complete the download (python -m rpe.tools.download)."
        )
    names = file.read_text().split()
    wrong = [name for name in names if not re.fullmatch(r"\d{4}_\d{6}", name)]
    if wrong or not names:
        raise UserError(
            f"split file {file} must list names such as 2008_000215, got "
            f"{repr(wrong[0]) if wrong else 'nothing'}. Write one name a line."
        )
    if len(set(names)) < len(names):
        duplicate = max(names, key=names.count)
        raise UserError(f"split file {file} must list each name once, got {duplicate} twice. Remove one.")
    return names


class VocImages:
    """One split of VOC, for training perhaps with SBD's images.

    An image in VOC's split has VOC's masks even if SBD has it too: they are finer, and void along each
    object's border. All other images come from SBD.

    Args:
        voc: `VOCdevkit/VOC2012`.
        split: `train` or `val`.
        sbd: `benchmark_RELEASE/dataset`, which adds SBD's train and val without VOC's val; None for VOC
            alone.
        longest_side: larger images are resized to this longest side in pixels; None keeps their size.
        crop: side of the random crop in pixels; None takes whole images.
        seed: of the crops.
        augment: augmentation of the crops, or None.
        copy_paste: probability that objects of another training image are pasted over an image.
        pictures: False opens masks and truth without the photographs.
    """

    def __init__(
        self,
        voc: Path,
        split: str,
        sbd: Path | None,
        longest_side: int | None,
        crop: int | None,
        seed: int,
        augment: Augment | None,
        pictures: bool = True,
        copy_paste: float = 0.0,
    ) -> None:
        self.voc, self.split, self.sbd, self.pictures = voc, split, sbd, pictures
        self.longest_side, self.crop, self.seed, self.augment = longest_side, crop, seed, augment
        self.copy_paste = copy_paste
        own = set(read_names(self.list_file(split)))
        names = set(own)
        if sbd is not None:
            names |= {name for part in ("train", "val") for name in read_names(sbd / f"{part}.txt")}
            names -= set(read_names(self.list_file("val")))
        # arrays, as Python objects would grow each worker's memory
        self.names = np.array(sorted(names), dtype="S11")
        self.is_own = np.array([name in own for name in sorted(names)])
        self.classes = dict(enumerate(CATEGORIES, start=1))
        self.known_truth: Truth | None = None
        self.check_files()

    def __len__(self) -> int:
        return len(self.names)

    def list_file(self, split: str) -> Path:
        """Return the file that lists the images of a split."""
        return self.voc / "ImageSets" / "Segmentation" / f"{split}.txt"

    def files(self, position: int) -> list[Path]:
        """Return image, object map and class map."""
        name = self.names[position].decode()
        picture = self.voc / "JPEGImages" / f"{name}.jpg"
        if self.is_own[position] or self.sbd is None:
            return [
                picture,
                self.voc / "SegmentationObject" / f"{name}.png",
                self.voc / "SegmentationClass" / f"{name}.png",
            ]
        if not picture.is_file():
            picture = self.sbd / "img" / f"{name}.jpg"
        return [picture, self.sbd / "inst" / f"{name}.mat", self.sbd / "cls" / f"{name}.mat"]

    def check_files(self) -> None:
        """Check that all files exist, and that SBD's are whole MATLAB files.

        Check the content of SBD's files for up to `SBD_READ` images, and type and size of VOC's masks for up
        to `HEADERS_READ` images. Of more images, these are checked when an image is read.

        Raises:
            UserError: naming the first wrong file.
        """
        for position in range(len(self)):
            for file in self.files(position) if self.pictures else self.files(position)[1:]:
                if not file.is_file():
                    name, part = self.names[position].decode(), "sbd" if file.suffix == ".mat" else "voc"
                    raise UserError(
                        f"{file} must exist, as {name} is listed for {self.split}, got none"
                        f"{name_similar_file(file)}. Run python -m rpe.tools.download name={part}"
                    )
        foreign = [position for position in range(len(self)) if not self.is_own[position]]
        for position in foreign:
            for file in self.files(position)[1:]:
                check_file(file)
        for position in foreign if len(foreign) <= SBD_READ else []:
            self.read_annotation(position)
        for position in range(len(self) if self.pictures and len(self) <= HEADERS_READ else 0):
            if self.is_own[position]:
                picture, *masks = self.files(position)
                for mask in masks:
                    check_headers(picture, mask)

    def read_annotation(self, position: int) -> LabelsAndClasses:
        """Return labels and classes of an image's objects, at its original size."""
        name = self.names[position].decode()
        if self.is_own[position] or self.sbd is None:
            _, object_file, class_file = self.files(position)
            return combine_maps(read_mask(object_file), read_mask(class_file), None, f"VOC's {name}")
        objects, classes, object_classes = read_sbd(self.sbd, name)
        return combine_maps(objects, classes, object_classes, f"SBD's {name}")

    def read_image(self, position: int, size: tuple[int, int] | None = None) -> tv_tensors.Image:
        """Return uint8 `[3, height, width]`, oriented as masks of `size` (height, width); None: upright."""
        return tv_tensors.Image(read_image(self.files(position)[0], None, size, "its masks"))

    def __getitem__(self, index: int) -> Sample:
        epoch, position = divmod(index, len(self))
        random = make_generator(self.seed, 1, epoch, position)
        sample = self.prepare(position, random)
        if self.copy_paste and random.random() < self.copy_paste:
            sample = paste(self.prepare(int(random.integers(len(self))), random), sample, random)
        return sample

    def prepare(self, position: int, random: np.random.Generator) -> Sample:
        """Return an image as the network sees it. Crop and augmentation are drawn from `random`."""
        labels, classes = self.read_annotation(position)
        size = (labels.shape[0], labels.shape[1])
        image = self.read_image(position, size)
        mask = tv_tensors.Mask(torch.from_numpy(labels))
        categories = np.append(BACKGROUND, classes)
        pixels, ids, kept = prepare_image(
            image, mask, categories, self.longest_side, self.crop, self.augment, random
        )
        return Sample(pixels, ids, parse_image_id(self.names[position].decode()), size, kept)

    def truth(self) -> Truth:
        """Return the truth in COCO format with run lengths, read once. Image id 2008000215 is 2008_000215.

        The void of an image is one crowd annotation with `"void": True`. Our metrics remove its pixels from
        the masks before matching, as the devkit does (`rpe.metric.void`). Other scorers see a crowd: they
        expect no mask there and ignore a mask mostly inside it, but void inside a mask counts against the
        mask. A scorer by category must drop the annotation or repeat it for each category.
        """
        if self.known_truth is None:
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for position in range(len(self)):
                name, (labels, classes) = self.names[position].decode(), self.read_annotation(position)
                image_id = parse_image_id(name)
                images.append(
                    {
                        "id": image_id,
                        "file_name": f"{name}.jpg",
                        "height": labels.shape[0],
                        "width": labels.shape[1],
                    }
                )
                for number, category in enumerate(classes.tolist(), start=1):
                    mask = encode_mask(labels == number)
                    annotations.append(make_annotation(len(annotations) + 1, image_id, category, mask))
                if (labels == VOID).any():
                    annotations.append(
                        make_annotation(len(annotations) + 1, image_id, 1, encode_mask(labels == VOID))
                        | {"iscrowd": 1, "void": True}
                    )
            categories = [{"id": number, "name": name} for number, name in self.classes.items()]
            self.known_truth = {"images": images, "annotations": annotations, "categories": categories}
        return self.known_truth


def parse_image_id(name: str) -> int:
    """Return the image id of a name: 2008000215 for 2008_000215."""
    return int(name.replace("_", ""))


def official_split(split: str) -> str:
    """Return VOC's split for one of ours: train, or val for val and test."""
    return "train" if split == "train" else "val"


class Voc(InstanceData):
    """PASCAL VOC 2012: `<root>/VOCdevkit/VOC2012`, and for `use_sbd` `<root>/benchmark_RELEASE/dataset`.

    With SBD the training set is VOC's train with SBD's train and val, without VOC's val: 10,582 images.
    The validation split is used for test too, as VOC's test truth is not public.
    """

    def __init__(
        self,
        name: str,
        root: str,
        use_sbd: bool,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        longest_side: int | None,
        crop: int,
        augment: Augment | None,
        copy_paste: float,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, num_workers, seed)
        check_sides(longest_side, crop)
        self.root, self.use_sbd = Path(root), use_sbd
        self.longest_side, self.crop, self.augment = longest_side, crop, augment
        self.copy_paste = check_probability("data.copy_paste", copy_paste)

    def open_split(self, split: str, training: bool) -> SplitDataset:
        """Open a split of VOC, in training with SBD if it is used."""
        voc, sbd = self.find_roots(split)
        augment, crop = (self.augment, self.crop) if training else (None, None)
        copy_paste = self.copy_paste if training else 0.0
        return VocImages(
            voc,
            official_split(split),
            sbd,
            self.longest_side,
            crop,
            self.seed,
            augment,
            copy_paste=copy_paste,
        )

    def find_roots(self, split: str) -> tuple[Path, Path | None]:
        """Return the folders of VOC and, for training with it, SBD."""
        voc = self.find_folder(
            ("VOCdevkit/VOC2012", "VOC2012", "."), "ImageSets/Segmentation", "VOC 2012", "voc"
        )
        if not self.use_sbd or split != "train":
            return voc, None
        return voc, self.find_folder(
            (".", "..", "../.."), "benchmark_RELEASE/dataset", "SBD (data.use_sbd=true)", "sbd"
        ) / "benchmark_RELEASE/dataset"

    def read_truth(self, split: str) -> Truth:
        """Read a split's annotations from its masks, without the images."""
        voc, sbd = self.find_roots(split)
        return VocImages(voc, official_split(split), sbd, None, None, self.seed, None, pictures=False).truth()

    def find_folder(self, candidates: tuple[str, ...], content: str, what: str, download: str) -> Path:
        """Return the first candidate under `root` that holds `content`.

        Raises:
            UserError: none of them does.
        """
        for candidate in candidates:
            if (self.root / candidate / content).is_dir():
                return self.root / candidate
        raise UserError(
            f"data.root must hold {what} as {candidates[0]}/{content}, got {self.root}. "
            "Set data.root or RPE_DATA_DIR, "
            f"or run python -m rpe.tools.download name={download} root={self.root}".replace("./", "")
        )
