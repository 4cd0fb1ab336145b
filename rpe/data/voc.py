"""PASCAL VOC 2012 (Everingham et al.) with its object masks, and with SBD the usual augmented training set."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision import tv_tensors

from rpe.data.augment import Augment, check_probability
from rpe.data.coco import HEADERS_READ, prepared
from rpe.data.copy_paste import paste
from rpe.data.image import check_sides, read_image
from rpe.data.listed import instead_of
from rpe.data.module import InstanceData, Sample, SplitDataset, Truth, generator_of
from rpe.data.sbd import check_file, read_sbd
from rpe.data.voc_mask import CATEGORIES, Annotated, check_headers, joined, read_mask
from rpe.structures import BACKGROUND, VOID, UserError, encode_mask

SBD_READ = 300
"""Up to so many images, SBD's files are read whole before training starts (9 ms each); all 9,000 would take more than a minute."""


def read_names(file: Path) -> list[str]:
    """A split's image names.

    Raises:
        UserError: no such file, no name, a line that is none, a name that comes twice.
    """
    if not file.is_file():
        raise UserError(
            f"split file {file} does not exist: complete the download (python -m rpe.tools.download)"
        )
    names = file.read_text().split()
    wrong = [name for name in names if not re.fullmatch(r"\d{4}_\d{6}", name)]
    if wrong or not names:
        raise UserError(
            f"split file {file} lists {repr(wrong[0]) if wrong else 'nothing'}: names such as 2008_000215 are wanted, one a line"
        )
    if len(set(names)) < len(names):
        raise UserError(f"split file {file} lists {max(names, key=names.count)} twice")
    return names


class VocImages:
    """One split.

    An image that VOC's split lists has VOC's own masks, also where SBD has it too: they are finer, and void along each object's
    border where SBD decides. Only what VOC does not list comes from SBD.

    Args:
        voc: `VOCdevkit/VOC2012`.
        split: `train` or `val`.
        sbd: `benchmark_RELEASE/dataset`, to train on SBD's train and val too, without VOC's val; None for VOC alone.
        longest_side: images are made smaller until this fits; None keeps them.
        crop: side of the random crop; None takes whole images.
        seed: of the crops.
        augment: what is done to the crops; None leaves them as they are.
        copy_paste: probability that objects of another training image are pasted over one.
        pictures: the photographs are needed; without, masks and truth can be read.
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
        own = set(read_names(self.list_of(split)))
        names = set(own)
        if sbd is not None:
            names |= {name for part in ("train", "val") for name in read_names(sbd / f"{part}.txt")}
            names -= set(read_names(self.list_of("val")))
        # arrays, as Python objects would grow every worker's memory
        self.names = np.array(sorted(names), dtype="S11")
        self.is_own = np.array([name in own for name in sorted(names)])
        self.classes = dict(enumerate(CATEGORIES, start=1))
        self.known_truth: Truth | None = None
        self.check_files()

    def __len__(self) -> int:
        return len(self.names)

    def list_of(self, split: str) -> Path:
        """The file that names the images of a split."""
        return self.voc / "ImageSets" / "Segmentation" / f"{split}.txt"

    def files(self, place: int) -> list[Path]:
        """Image, object map, class map."""
        name = self.names[place].decode()
        picture = self.voc / "JPEGImages" / f"{name}.jpg"
        if self.is_own[place] or self.sbd is None:
            return [
                picture,
                self.voc / "SegmentationObject" / f"{name}.png",
                self.voc / "SegmentationClass" / f"{name}.png",
            ]
        if not picture.is_file():
            picture = self.sbd / "img" / f"{name}.jpg"
        return [picture, self.sbd / "inst" / f"{name}.mat", self.sbd / "cls" / f"{name}.mat"]

    def check_files(self) -> None:
        """All files exist, SBD's are whole MATLAB files, and where they are few, VOC's masks are masks and have the size of their image, and SBD's
        files hold instances; what many files hold is seen when an image is read, and told in the same line.

        Raises:
            UserError: naming the first that is not as it should be.
        """
        for place in range(len(self)):
            for file in self.files(place) if self.pictures else self.files(place)[1:]:
                if not file.is_file():
                    name, part = self.names[place].decode(), "sbd" if file.suffix == ".mat" else "voc"
                    raise UserError(
                        f"{file} does not exist, but {name} is listed for {self.split}{instead_of(file)}: python -m rpe.tools.download name={part} completes the download"
                    )
        foreign = [place for place in range(len(self)) if not self.is_own[place]]
        for place in foreign:
            for file in self.files(place)[1:]:
                check_file(file)
        for place in foreign if len(foreign) <= SBD_READ else []:
            self.annotated(place)
        for place in range(len(self) if self.pictures and len(self) <= HEADERS_READ else 0):
            if self.is_own[place]:
                picture, *masks = self.files(place)
                for mask in masks:
                    check_headers(picture, mask)

    def annotated(self, place: int) -> Annotated:
        """Labels and classes of the objects of an image, at its original size."""
        name = self.names[place].decode()
        if self.is_own[place] or self.sbd is None:
            _, object_file, class_file = self.files(place)
            return joined(read_mask(object_file), read_mask(class_file), None, f"VOC's {name}")
        objects, classes, class_of = read_sbd(self.sbd, name)
        return joined(objects, classes, class_of, f"SBD's {name}")

    def read_image(self, place: int, size: tuple[int, int] | None = None) -> tv_tensors.Image:
        """uint8 `[3, height, width]`, lying as its masks of `size` (height, width); None: upright."""
        return tv_tensors.Image(read_image(self.files(place)[0], None, size, "its masks are"))

    def __getitem__(self, index: int) -> Sample:
        epoch, place = divmod(index, len(self))
        random = generator_of(self.seed, 1, epoch, place)
        sample = self.prepare(place, random)
        if self.copy_paste and random.random() < self.copy_paste:
            sample = paste(self.prepare(int(random.integers(len(self))), random), sample, random)
        return sample

    def prepare(self, place: int, random: np.random.Generator) -> Sample:
        """Return an image as the network sees it; crop and augmentation are drawn from `random`."""
        labels, classes = self.annotated(place)
        size = (labels.shape[0], labels.shape[1])
        image = self.read_image(place, size)
        mask = tv_tensors.Mask(torch.from_numpy(labels))
        categories = np.append(BACKGROUND, classes)
        pixels, dense_labels, of_labels = prepared(
            image, mask, categories, self.longest_side, self.crop, self.augment, random
        )
        return Sample(pixels, dense_labels, image_id_of(self.names[place].decode()), size, of_labels)

    def truth(self) -> Truth:
        """Objects as run lengths in COCO format, read once; image id 2008000215 is 2008_000215.

        The void of an image is one crowd annotation that says `"void": True`, also in a file written from this. Our figures take its pixels
        out of the masks before these are compared with objects, as the devkit does (`rpe.metric.void`). Other scorers see a crowd: they ask
        for no mask there and ignore one that lies mostly in it, but void within a mask still counts against it. Its category does not
        matter without categories; whoever scores by category must leave it out or repeat it for each.
        """
        if self.known_truth is None:
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for place in range(len(self)):
                name, (labels, classes) = self.names[place].decode(), self.annotated(place)
                image_id = image_id_of(name)
                images.append(
                    {
                        "id": image_id,
                        "file_name": f"{name}.jpg",
                        "height": labels.shape[0],
                        "width": labels.shape[1],
                    }
                )
                for number, category in enumerate(classes.tolist(), start=1):
                    annotations.append(
                        annotation_of(len(annotations) + 1, image_id, category, labels == number)
                    )
                if (labels == VOID).any():
                    annotations.append(
                        annotation_of(len(annotations) + 1, image_id, 1, labels == VOID)
                        | {"iscrowd": 1, "void": True}
                    )
            categories = [{"id": number, "name": name} for number, name in self.classes.items()]
            self.known_truth = {"images": images, "annotations": annotations, "categories": categories}
        return self.known_truth


def image_id_of(name: str) -> int:
    """2008_000215 as 2008000215."""
    return int(name.replace("_", ""))


def annotation_of(number: int, image_id: int, category: int, mask: np.ndarray) -> dict[str, Any]:
    """A mask as an annotation of COCO's."""
    code = encode_mask(mask)
    box = [float(value) for value in coco_mask.toBbox(code)]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": box,
        "segmentation": code,
    }


def official(split: str) -> str:
    """Which of VOC's splits stands for one of ours."""
    return "train" if split == "train" else "val"


class Voc(InstanceData):
    """PASCAL VOC 2012 under `root`: `VOCdevkit/VOC2012`, and for `use_sbd` beside it `benchmark_RELEASE/dataset`.

    With SBD the training set is VOC's train, SBD's train and SBD's val without VOC's val: 10,582 images on the full data.
    VOC's test split has no public truth: the validation split stands in for it.
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
        voc, sbd = self.places(split)
        augment, crop = (self.augment, self.crop) if training else (None, None)
        copy_paste = self.copy_paste if training else 0.0
        return VocImages(
            voc, official(split), sbd, self.longest_side, crop, self.seed, augment, copy_paste=copy_paste
        )

    def places(self, split: str) -> tuple[Path, Path | None]:
        """Where VOC and, for training with it, SBD lie."""
        voc = self.folder(("VOCdevkit/VOC2012", "VOC2012", "."), "ImageSets/Segmentation", "VOC 2012", "voc")
        if not self.use_sbd or split != "train":
            return voc, None
        return voc, self.folder(
            (".", "..", "../.."), "benchmark_RELEASE/dataset", "SBD (data.use_sbd=true)", "sbd"
        ) / "benchmark_RELEASE/dataset"

    def read_truth(self, split: str) -> Truth:
        voc, sbd = self.places(split)
        return VocImages(voc, official(split), sbd, None, None, self.seed, None, pictures=False).truth()

    def folder(self, places: tuple[str, ...], content: str, what: str, download: str) -> Path:
        """The first place under `root` that holds `content`.

        Raises:
            UserError: none does.
        """
        for place in places:
            if (self.root / place / content).is_dir():
                return self.root / place
        raise UserError(
            f"{what} is not under {self.root}, there is no {places[0]}/{content}: set data.root or RPE_DATA_DIR, "
            f"or python -m rpe.tools.download name={download} root={self.root}".replace("./", "")
        )
