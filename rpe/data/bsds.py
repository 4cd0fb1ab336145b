"""BSDS500: images, and what four to nine people each saw as their segments and boundaries.

Official layout: `images/<split>/<name>.jpg` and `groundTruth/<split>/<name>.mat`. In the files a person's boundaries are the thinned places
where the segments change, to the pixel; so warped segments give warped boundaries of one pixel's width.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import ndimage, sparse
from torch import Tensor
from torch.nn import functional

from rpe.data.augment import reflected
from rpe.data.image import read_image
from rpe.data.listed import instead_of, suffixes_in
from rpe.data.mat import read_mat
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
        UserError: no such file, not a MAT file, without `groundTruth`, or with anything but maps of one size in it.
    """
    if not file.is_file():
        raise UserError(
            f"annotation file {file} does not exist: set data.root or RPE_DATA_DIR to where BSDS500 lies"
        )
    content = read_mat(file, "annotation file")
    if "groundTruth" not in content:
        raise UserError(
            f"annotation file {file} has no groundTruth, it holds {', '.join(content) or 'nothing'}: it is not in BSDS500's format"
        )
    people = [
        (map_of(one, "Segmentation", file), map_of(one, "Boundaries", file))
        for one in structs_in(content["groundTruth"])
    ]
    if not people:
        raise UserError(
            f"annotation file {file} has an empty groundTruth: it needs one struct for each annotator"
        )
    shapes = list(dict.fromkeys(part.shape for person in people for part in person))
    if len(shapes) > 1:
        raise UserError(
            f"annotation file {file} holds maps of several sizes, {shapes[0]} and {shapes[1]} (height, width)"
        )
    return [
        Annotation(segments.astype(np.int64) - int(segments.min()), boundaries > 0)
        for segments, boundaries in people
    ]


def structs_in(value: Any) -> Iterator[Any]:
    """The annotators' structs in a cell (BSDS500's own files), a struct array (scipy's `savemat`), or one struct, however they are nested."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        for one in value.ravel():
            yield from structs_in(one)
    elif isinstance(value, np.ndarray) and value.dtype.names:
        yield from value.ravel()
    else:
        yield value


def map_of(struct: Any, field: str, file: Path) -> np.ndarray:
    """A field of an annotator's struct, as it must be: whole numbers on two axes.

    Raises:
        UserError: no struct, one without the field, or another value in it.
    """
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if not names or field not in names:
        found = f"a struct of {', '.join(names)}" if names else describe(struct)
        raise UserError(
            f"annotation file {file} has {found} in groundTruth: a struct with Segmentation and Boundaries is needed for each annotator"
        )
    value = struct[field]
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if sparse.issparse(value):
        value = value.toarray()
    if (
        not isinstance(value, np.ndarray)
        or value.ndim != 2
        or value.dtype.kind not in "biuf"
        or not value.size
    ):
        raise UserError(
            f"annotation file {file} has {describe(value)} in {field}: a map of numbers [height, width] is needed"
        )
    if not (np.isfinite(value) & (value == np.floor(value)) & (np.abs(value) < 2.0**31)).all():
        raise UserError(
            f"annotation file {file} has values in {field} that are not whole numbers: a map of segments' numbers is needed"
        )
    return value


def describe(value: Any) -> str:
    """A value's type and size in words."""
    return (
        f"{value.dtype}{list(value.shape)}"
        if isinstance(value, np.ndarray)
        else f"one {type(value).__name__}"
    )


def split_files(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Image and annotation file of each name of a split, ascending as text.

    `root` is the folder that holds `images` and `groundTruth`, or one of those above it as the download has them (BSR, BSDS500). Without a
    folder of the split, files that lie there directly (as in the benchmark's own example) are every split.

    Raises:
        UserError: no such folder, no image, an image without annotations.
    """
    inside = next(
        (root / below for below in ("", "BSDS500/data", "data") if (root / below / "images").is_dir()), None
    )
    if inside is None:
        raise UserError(
            f"{root} has no folder images: set data.root or RPE_DATA_DIR to where BSDS500's data lie (BSR/BSDS500/data)"
        )
    folders = [inside / kind / split for kind in ("images", "groundTruth")]
    if not folders[0].is_dir() and any((inside / "images").glob("*.jpg")):
        folders = [folder.parent for folder in folders]
    images = sorted(folders[0].glob("*.jpg"), key=lambda path: path.stem)
    others = suffixes_in(folders[0], {".jpg"}, {".db"})
    if not images and others:
        raise UserError(
            f"{folders[0]} holds no image *.jpg, but {others}: BSDS500's images end in .jpg, save these as such (quality 95)"
        )
    if not images:
        raise UserError(f"{folders[0]} holds no image (*.jpg): is the download complete?")
    if others:
        print(
            f"warning: {folders[0]} also holds {others}, left out: only *.jpg is read",
            file=sys.stderr,
            flush=True,
        )
    files = {image.stem: (image, folders[1] / f"{image.stem}.mat") for image in images}
    absent = [truth for _, truth in files.values() if not truth.is_file()]
    if absent:
        raise UserError(
            f"annotation file {absent[0]} is missing ({len(absent)} such{instead_of(absent[0])}): "
            "python -m rpe.tools.download name=bsds completes the download"
        )
    return files


def agreed(
    votes: Int64[np.ndarray, "height width"], people: int, min_annotators: float
) -> Int64[np.ndarray, "height width"]:
    """The target of training: 1 where at least `min_annotators` people see a boundary, void where fewer do, 0 where nobody.

    Args:
        votes: how many of the `people` see one.
        min_annotators: a number of people from 1 on, and never more than there are; below 1 a share of them.
    """
    needed = min(min_annotators, people) if min_annotators >= 1 else min_annotators * people
    return np.where(votes >= needed, 1, np.where(votes > 0, VOID, 0)).astype(np.int64)


def votes_of(
    boundaries: list[Bool[np.ndarray, "height width"]], vote_radius: int
) -> Int64[np.ndarray, "height width"]:
    """How many people's boundaries pass within `vote_radius` pixels; 0 where nobody's lies."""
    stack = np.stack(boundaries)
    anyone = stack.any(0)
    if vote_radius:
        rows, columns = np.ogrid[-vote_radius : vote_radius + 1, -vote_radius : vote_radius + 1]
        disc = rows**2 + columns**2 <= vote_radius**2
        stack = np.stack([ndimage.binary_dilation(one, disc) for one in stack])
    return np.where(anyone, stack.sum(0), 0)


class BsdsImages:
    """One split, or several as one.

    Args:
        files: image and annotation file of each name.
        min_annotators: see `agreed`.
        vote_radius: see `votes_of`.
        crop: side of the random view; None takes whole images as they are.
        scales, rotation, flip: of the random view, see `View.draw`.
        seed: of the views.
    """

    def __init__(
        self,
        files: dict[str, tuple[Path, Path]],
        min_annotators: float,
        vote_radius: int,
        crop: int | None,
        scales: tuple[float, float],
        rotation: float,
        flip: bool,
        seed: int,
    ) -> None:
        self.names, self.files = list(files), list(files.values())
        self.min_annotators, self.vote_radius = min_annotators, vote_radius
        self.crop, self.scales, self.rotation, self.flip, self.seed = crop, scales, rotation, flip, seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> BoundarySample:
        epoch, place = divmod(index, len(self))
        picture, truth = self.files[place]
        people = read_annotations(truth)
        size = (people[0].segments.shape[0], people[0].segments.shape[1])
        image = read_image(picture, None, size, f"annotation file {truth} is").float() / 255
        if self.crop is not None:
            random = generator_of(self.seed, 1, epoch, place)
            view = View.draw(size, self.crop, self.scales, self.rotation, self.flip, random)
            image, people = view.image(image), [view.annotation(one) for one in people]
        labels = agreed(
            votes_of([one.boundaries for one in people], self.vote_radius), len(people), self.min_annotators
        )
        segments = np.stack([one.segments for one in people])
        labels[segments[0] == VOID] = VOID
        return BoundarySample(
            image, torch.from_numpy(labels), place, size, torch.from_numpy(segments), self.names[place]
        )

    def truth(self) -> Truth:
        """Image and annotation file of each name: what an evaluation reads the annotators from."""
        return {"files": dict(zip(self.names, self.files, strict=True))}


def collate_boundaries(samples: list[BoundarySample]) -> BoundaryBatch:
    """Stack samples; portrait and landscape meet on the larger of both, what is added below and to the right is their reflection, and void."""
    height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (1, 2))
    people = max(len(sample.segments) for sample in samples)

    def widen(values: Tensor, fill: float, planes: int | None = None) -> Tensor:
        beyond = [0, width - values.shape[-1], 0, height - values.shape[-2]] + (
            [0, planes - len(values)] if planes else []
        )
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
        num_workers: int,
        seed: int,
        train_splits: list[str],
        min_annotators: float,
        vote_radius: int,
        crop: int,
        scales: list[float],
        rotation: float,
        flip: bool,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, num_workers, seed)
        self.root, self.train_splits = Path(root), list(train_splits)
        self.min_annotators, self.vote_radius, self.crop, self.rotation, self.flip = (
            min_annotators,
            vote_radius,
            crop,
            rotation,
            flip,
        )
        self.scales = (scales[0], scales[-1])
        self.check()

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            UserError: naming the key.
        """
        wrong = [split for split in self.train_splits if split not in ("train", "val")]
        if not self.train_splits or wrong:
            raise UserError(
                f"data.train_splits {self.train_splits}: name train, val or both; test is for testing"
            )
        if self.min_annotators <= 0 or (
            self.min_annotators > 1 and self.min_annotators != int(self.min_annotators)
        ):
            raise UserError(
                f"data.min_annotators {self.min_annotators}: a number of people (1, 2, 3 ..) or a share of them between 0 and 1"
            )
        if not 0 < self.scales[0] <= self.scales[1]:
            raise UserError(f"data.scales {list(self.scales)}: the smallest and the largest, both above 0")
        for key, value, least in (
            ("vote_radius", self.vote_radius, 0),
            ("crop", self.crop, 8),
            ("rotation", self.rotation, 0),
        ):
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
        return BsdsImages(
            files,
            self.min_annotators,
            self.vote_radius,
            crop,
            self.scales,
            self.rotation,
            self.flip,
            self.seed,
        )  # type: ignore[return-value]
