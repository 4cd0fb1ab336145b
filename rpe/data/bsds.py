"""BSDS500: images, and what four to nine people each saw as their segments and boundaries.

Official layout: `images/<split>/<name>.jpg` and `groundTruth/<split>/<name>.mat`. In the files a person's boundaries are the thinned places
where the segments change, to the pixel; so warped segments give warped boundaries of one pixel's width.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image, UnidentifiedImageError
from scipy import io, ndimage
from torch import Tensor
from torch.nn import functional

from rpe.data.augment import reflected
from rpe.data.module import Split, SplitData, Truth, generator_of
from rpe.data.view import Annotation, View
from rpe.structures import VOID, BoundaryBatch, UserError


class BoundarySample(NamedTuple):
    """One item of `BsdsImages`; `labels` 1 boundary, 0 not, void; what lies outside the image is its reflection, and void."""

    image: Float[Tensor, "3 height width"]
    labels: Int64[Tensor, "height width"]
    image_id: int
    size: tuple[int, int]
    segments: Int64[Tensor, "annotator height width"]
    name: str


def read_annotations(file: Path) -> list[Annotation]:
    """All people's annotations of an image.

    Raises:
        UserError: no such file, not a MAT file, without `groundTruth`, or with maps of several sizes.
    """
    if not file.is_file():
        raise UserError(f"annotation file {file} does not exist: set data.root or RPE_DATA_DIR to where BSDS500 lies")
    try:
        cells = io.loadmat(file)["groundTruth"].ravel()
        people = [(cell["Segmentation"][0, 0], cell["Boundaries"][0, 0]) for cell in cells]
    except KeyError as error:
        raise UserError(f"annotation file {file} has no groundTruth: it is none of BSDS500's") from error
    except Exception as error:  # garbage makes reading fail in every way there is
        raise UserError(f"annotation file {file} does not hold groundTruth with Segmentation and Boundaries: is the download complete?") from error
    if not people or len({part.shape for person in people for part in person}) != 1:
        raise UserError(f"annotation file {file} holds no person's maps, or maps of several sizes")
    return [Annotation(segments.astype(np.int64) - int(segments.min()), boundaries > 0) for segments, boundaries in people]


def split_files(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Image and annotation file of each name of a split, ascending as text.

    `root` is the folder that holds `images` and `groundTruth`, or one of those above it as the download has them (BSR, BSDS500). Without a
    folder of the split, files that lie there directly (as in the benchmark's own example) are every split.

    Raises:
        UserError: no such folder, no image, an image without annotations.
    """
    inside = next((root / below for below in ("", "BSDS500/data", "data") if (root / below / "images").is_dir()), None)
    if inside is None:
        raise UserError(f"{root} has no folder images: set data.root or RPE_DATA_DIR to where BSDS500's data lie (BSR/BSDS500/data)")
    folders = [inside / kind / split for kind in ("images", "groundTruth")]
    if not folders[0].is_dir() and any((inside / "images").glob("*.jpg")):
        folders = [folder.parent for folder in folders]
    images = sorted(folders[0].glob("*.jpg"), key=lambda path: path.stem)
    if not images:
        raise UserError(f"{folders[0]} holds no image (*.jpg): is the download complete?")
    files = {image.stem: (image, folders[1] / f"{image.stem}.mat") for image in images}
    absent = [truth for _, truth in files.values() if not truth.is_file()]
    if absent:
        raise UserError(f"annotation file {absent[0]} is missing ({len(absent)} such): python -m rpe.tools.download name=bsds completes the download")
    return files


def agreed(votes: Int64[np.ndarray, "height width"], people: int, agree: float) -> Int64[np.ndarray, "height width"]:
    """The target of training: 1 where at least `agree` people see a boundary, void where fewer do, 0 where nobody.

    Args:
        votes: how many of the `people` see one.
        agree: a number of people from 1 on, and never more than there are; below 1 a share of them.
    """
    needed = min(agree, people) if agree >= 1 else agree * people
    return np.where(votes >= needed, 1, np.where(votes > 0, VOID, 0)).astype(np.int64)


def votes_of(boundaries: list[Bool[np.ndarray, "height width"]], slack: int) -> Int64[np.ndarray, "height width"]:
    """How many people's boundaries pass within `slack` pixels; 0 where nobody's lies."""
    stack = np.stack(boundaries)
    anyone = stack.any(0)
    if slack:
        rows, columns = np.ogrid[-slack : slack + 1, -slack : slack + 1]
        disc = rows**2 + columns**2 <= slack**2
        stack = np.stack([ndimage.binary_dilation(one, disc) for one in stack])
    return np.where(anyone, stack.sum(0), 0)


class BsdsImages:
    """One split, or several as one.

    Args:
        files: image and annotation file of each name.
        agree: see `agreed`.
        slack: see `votes_of`.
        crop: side of the random view; None takes whole images as they are.
        scales, rotation, flip: of the random view, see `View.draw`.
        seed: of the views.
    """

    def __init__(
        self,
        files: dict[str, tuple[Path, Path]],
        agree: float,
        slack: int,
        crop: int | None,
        scales: tuple[float, float],
        rotation: float,
        flip: bool,
        seed: int,
    ) -> None:
        self.names, self.files = list(files), list(files.values())
        self.agree, self.slack = agree, slack
        self.crop, self.scales, self.rotation, self.flip, self.seed = crop, scales, rotation, flip, seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> BoundarySample:
        epoch, place = divmod(index, len(self))
        image, people = read_image(self.files[place][0]), read_annotations(self.files[place][1])
        size = (int(image.shape[1]), int(image.shape[2]))
        if people[0].segments.shape != size:
            raise UserError(f"annotation file {self.files[place][1]} is made for another size than its image {size} (height, width)")
        if self.crop is not None:
            random = generator_of(self.seed, 1, epoch, place)
            view = View.draw(size, self.crop, self.scales, self.rotation, self.flip, random)
            image, people = view.image(image), [view.annotation(one) for one in people]
        labels = agreed(votes_of([one.boundaries for one in people], self.slack), len(people), self.agree)
        segments = np.stack([one.segments for one in people])
        labels[segments[0] == VOID] = VOID
        return BoundarySample(image, torch.from_numpy(labels), place, size, torch.from_numpy(segments), self.names[place])

    def truth(self) -> Truth:
        """Image and annotation file of each name: what an evaluation reads the annotators from."""
        return {"files": dict(zip(self.names, self.files, strict=True))}


def read_image(file: Path) -> Float[Tensor, "3 height width"]:
    """An image in [0, 1].

    Raises:
        UserError: it does not decode.
    """
    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"image {file} does not decode ({type(error).__name__}): replace or remove it") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def collate_boundaries(samples: list[BoundarySample]) -> BoundaryBatch:
    """Stack samples; portrait and landscape meet on the larger of both, what is added below and to the right is their reflection, and void."""
    height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (1, 2))
    people = max(len(sample.segments) for sample in samples)

    def widen(values: Tensor, fill: float, planes: int | None = None) -> Tensor:
        beyond = [0, width - values.shape[-1], 0, height - values.shape[-2]] + ([0, planes - len(values)] if planes else [])
        return functional.pad(values, beyond, value=fill)

    def mirror(image: Tensor) -> Tensor:
        return image[:, reflected(0, height, image.shape[1])[:, None], reflected(0, width, image.shape[2])]

    return BoundaryBatch(
        images=torch.stack([mirror(sample.image) for sample in samples]),
        labels=torch.stack([widen(sample.labels, VOID) for sample in samples]),
        image_ids=[sample.image_id for sample in samples],
        sizes=[sample.size for sample in samples],
        segments=torch.stack([widen(sample.segments, VOID, people) for sample in samples]),
        names=[sample.name for sample in samples],
    )


class Bsds(SplitData):
    """BSDS500 under `root`; training sees random square views of `train_splits`, evaluation whole images.

    A batch of whole images in both orientations is filled up with void; with eval_batch_size 1 nothing is added.
    """

    collate = staticmethod(collate_boundaries)

    def __init__(
        self,
        name: str,
        root: str,
        batch_size: int,
        eval_batch_size: int,
        workers: int,
        seed: int,
        train_splits: list[str],
        agree: float,
        slack: int,
        crop: int,
        scales: list[float],
        rotation: float,
        flip: bool,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, workers, seed)
        self.root, self.train_splits = Path(root), list(train_splits)
        self.agree, self.slack, self.crop, self.rotation, self.flip = agree, slack, crop, rotation, flip
        self.scales = (scales[0], scales[-1])
        self.check()

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            UserError: naming the key.
        """
        wrong = [split for split in self.train_splits if split not in ("train", "val")]
        if not self.train_splits or wrong:
            raise UserError(f"data.train_splits {self.train_splits}: name train, val or both; test is for testing")
        if self.agree <= 0 or (self.agree > 1 and self.agree != int(self.agree)):
            raise UserError(f"data.agree {self.agree}: a number of people (1, 2, 3 ..) or a share of them between 0 and 1")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise UserError(f"data.scales {list(self.scales)}: the smallest and the largest, both above 0")
        for key, value, least in (("slack", self.slack, 0), ("crop", self.crop, 8), ("rotation", self.rotation, 0)):
            if value < least:
                raise UserError(f"data.{key} {value} is below {least}")

    def files(self, split: str) -> dict[str, tuple[Path, Path]]:
        """Image and annotation file of each name of a split."""
        return split_files(self.root, split)

    def open_split(self, split: str, training: bool) -> Split:
        splits = self.train_splits if training else [split]
        files = {name: pair for one in splits for name, pair in self.files(one).items()}
        crop = self.crop if training else None
        # its samples carry more than the protocol's
        return BsdsImages(files, self.agree, self.slack, crop, self.scales, self.rotation, self.flip, self.seed)  # type: ignore[return-value]
