"""Read BSDS500: images, each with the segments and boundaries of four to nine annotators.

Official layout: `images/<split>/<name>.jpg` and `groundTruth/<split>/<name>.mat`. The files' boundaries equal
the thinned segment changes, so boundaries of a warped image are computed from its warped segments.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import ndimage, sparse
from torch import Tensor
from torch.nn import functional

from rpe.data.image import read_image
from rpe.data.listed import name_similar_file, suffixes_in
from rpe.data.mat import read_mat
from rpe.data.module import Split, SplitData, make_generator
from rpe.data.view import Drawing, View
from rpe.errors import warn
from rpe.structures import VOID, BoundaryBatch, Truth, UserError, reflect_indices


class BoundarySample(NamedTuple):
    """One item of `BsdsImages`. `labels` are 1 boundary, 0 no boundary, or void.

    Beyond the image, `image` shows its reflection and `labels` are void.
    """

    image: Float[Tensor, "3 height width"]
    labels: Int64[Tensor, "height width"]
    image_id: int
    size: tuple[int, int]
    segments: Int64[Tensor, "annotator height width"]
    name: str


def read_drawings(file: Path) -> list[Drawing]:
    """Read all annotators' drawings of an image.

    Raises:
        UserError: no such file, not a MAT file, no `groundTruth`, or maps in it that are wrong or differ in
            size.
    """
    if not file.is_file():
        raise UserError(
            f"annotation file {file} must exist, got none. Set data.root or RPE_DATA_DIR to BSDS500's folder."
        )
    content = read_mat(file, "annotation file")
    if "groundTruth" not in content:
        raise UserError(
            f"annotation file {file} must hold groundTruth, got {', '.join(content) or 'nothing'}. "
            "Save it in BSDS500's format."
        )
    people = [
        (read_map(one, "Segmentation", file), read_map(one, "Boundaries", file))
        for one in iterate_structs(content["groundTruth"])
    ]
    if not people:
        raise UserError(
            f"groundTruth in {file} must hold a struct for each annotator, got none. Download the file anew."
        )
    shapes = list(dict.fromkeys(part.shape for person in people for part in person))
    if len(shapes) > 1:
        raise UserError(
            f"annotation file {file} must hold maps of one size, got {shapes[0]} and {shapes[1]} "
            "(height, width). Save them at the image's size."
        )
    return [
        Drawing(segments.astype(np.int64) - int(segments.min()), boundaries > 0)
        for segments, boundaries in people
    ]


def iterate_structs(value: Any) -> Iterator[Any]:
    """Yield the annotators' structs of a cell (BSDS500), a struct array (scipy's `savemat`) or one struct."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        for one in value.ravel():
            yield from iterate_structs(one)
    elif isinstance(value, np.ndarray) and value.dtype.names:
        yield from value.ravel()
    else:
        yield value


def read_map(struct: Any, field: str, file: Path) -> np.ndarray:
    """Return a field of an annotator's struct: integers [height, width].

    Raises:
        UserError: not a struct, no such field, or another value in it.
    """
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if not names or field not in names:
        found = f"a struct of {', '.join(names)}" if names else describe_type(struct)
        raise UserError(
            f"groundTruth in {file} must hold structs with Segmentation and Boundaries, got {found}. "
            "Save one for each annotator."
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
            f"{field} in {file} must be numbers [height, width], got {describe_type(value)}. "
            "Save a map of numbers."
        )
    integers = np.isfinite(value) & (value == np.floor(value)) & (np.abs(value) < 2.0**31)
    if not integers.all():
        raise UserError(
            f"{field} in {file} must hold integers, got {value[~integers][0]:g}. "
            "Save a map of segment numbers."
        )
    return value


def describe_type(value: Any) -> str:
    """Return a value's type, and an array's shape, for messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return f"one {type(value).__name__}"


def split_files(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Return the image and annotation file of each name of a split, sorted by name.

    `root` is the folder with `images` and `groundTruth`, or BSR or BSDS500 above it in the download. Without
    a folder for the split, the files directly in `images` and `groundTruth` are used (as in the benchmark's
    own example).

    Raises:
        UserError: no such folder, no image, or an image without annotations.
    """
    inside = next(
        (root / part for part in ("", "BSDS500/data", "data") if (root / part / "images").is_dir()), None
    )
    if inside is None:
        raise UserError(
            f"data.root must hold BSDS500's folder images, got {root}. "
            "Set data.root or RPE_DATA_DIR to BSR/BSDS500/data."
        )
    folders = [inside / kind / split for kind in ("images", "groundTruth")]
    if not folders[0].is_dir() and any((inside / "images").glob("*.jpg")):
        folders = [folder.parent for folder in folders]
    images = sorted(folders[0].glob("*.jpg"), key=lambda path: path.stem)
    others = suffixes_in(folders[0], {".jpg"}, {".db"})
    if not images and others:
        raise UserError(f"{folders[0]} must hold *.jpg, got {others}. Save the images as JPEG (quality 95).")
    if not images:
        raise UserError(f"{folders[0]} must hold *.jpg, got no image. Complete the download.")
    if others:
        warn(f"{folders[0]} also holds {others}: only *.jpg is read")
    files = {image.stem: (image, folders[1] / f"{image.stem}.mat") for image in images}
    absent = [truth for _, truth in files.values() if not truth.is_file()]
    if absent:
        raise UserError(
            f"annotation file {absent[0]} must exist, got none "
            f"({len(absent)} such{name_similar_file(absent[0])}). "
            "Run python -m rpe.tools.download name=bsds"
        )
    return files


def make_target(
    votes: Int64[np.ndarray, "height width"], people: int, min_annotators: float
) -> Int64[np.ndarray, "height width"]:
    """Return the training target: 1 where enough annotators see a boundary, void where fewer do, 0 elsewhere.

    Args:
        votes: number of annotators that see a boundary.
        people: number of annotators of the image.
        min_annotators: annotators needed, at most `people`; below 1 a fraction of them.
    """
    needed = min(min_annotators, people) if min_annotators >= 1 else min_annotators * people
    return np.where(votes >= needed, 1, np.where(votes > 0, VOID, 0)).astype(np.int64)


def count_votes(
    boundaries: list[Bool[np.ndarray, "height width"]], vote_radius: int
) -> Int64[np.ndarray, "height width"]:
    """Count annotators with a boundary within `vote_radius` pixels. Pixels on no boundary get 0."""
    stack = np.stack(boundaries)
    anyone = stack.any(0)
    if vote_radius:
        rows, columns = np.ogrid[-vote_radius : vote_radius + 1, -vote_radius : vote_radius + 1]
        disc = rows**2 + columns**2 <= vote_radius**2
        stack = np.stack([ndimage.binary_dilation(one, disc) for one in stack])
    return np.where(anyone, stack.sum(0), 0)


class BsdsImages:
    """BSDS500's images of one or several splits, with their annotations.

    Args:
        files: image and annotation file of each name.
        min_annotators: see `make_target`.
        vote_radius: see `count_votes`.
        crop: side of the random view in pixels; None takes whole images.
        scale_range, rotation, flip: of the random view, see `View.draw`.
        seed: of the random views.
    """

    def __init__(
        self,
        files: dict[str, tuple[Path, Path]],
        min_annotators: float,
        vote_radius: int,
        crop: int | None,
        scale_range: tuple[float, float],
        rotation: float,
        flip: bool,
        seed: int,
    ) -> None:
        self.names, self.files = list(files), list(files.values())
        self.min_annotators, self.vote_radius = min_annotators, vote_radius
        self.crop, self.scale_range, self.rotation = crop, scale_range, rotation
        self.flip, self.seed = flip, seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> BoundarySample:
        epoch, position = divmod(index, len(self))
        picture, truth = self.files[position]
        people = read_drawings(truth)
        size = (people[0].segments.shape[0], people[0].segments.shape[1])
        image = read_image(picture, None, size, f"annotation file {truth}").float() / 255
        if self.crop is not None:
            random = make_generator(self.seed, 1, epoch, position)
            view = View.draw(size, self.crop, self.scale_range, self.rotation, self.flip, random)
            image, people = view.image(image), [view.drawing(one) for one in people]
        labels = make_target(
            count_votes([one.boundaries for one in people], self.vote_radius),
            len(people),
            self.min_annotators,
        )
        segments = np.stack([one.segments for one in people])
        labels[segments[0] == VOID] = VOID
        return BoundarySample(
            image, torch.from_numpy(labels), position, size, torch.from_numpy(segments), self.names[position]
        )

    def truth(self) -> Truth:
        """Return the image and annotation file of each name, from which evaluation reads the annotators."""
        return {"files": dict(zip(self.names, self.files, strict=True))}


def collate_boundaries(samples: list[BoundarySample]) -> BoundaryBatch:
    """Stack samples. Smaller images are padded below and to the right by their reflection, which is void."""
    height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (1, 2))
    people = max(len(sample.segments) for sample in samples)

    def pad(values: Tensor, planes: int | None = None) -> Tensor:
        padding = [0, width - values.shape[-1], 0, height - values.shape[-2]]
        padding += [0, planes - len(values)] if planes else []
        return functional.pad(values, padding, value=VOID)

    def mirror(image: Tensor) -> Tensor:
        return image[
            :, reflect_indices(0, height, image.shape[1])[:, None], reflect_indices(0, width, image.shape[2])
        ]

    return BoundaryBatch(
        images=torch.stack([mirror(sample.image) for sample in samples]),
        labels=torch.stack([pad(sample.labels) for sample in samples]),
        image_ids=[sample.image_id for sample in samples],
        sizes=[sample.size for sample in samples],
        segments=torch.stack([pad(sample.segments, people) for sample in samples]),
        names=[sample.name for sample in samples],
    )


class Bsds(SplitData):
    """BSDS500 under `root`. Training sees random square views of `train_splits`, evaluation whole images.

    A batch of portrait and landscape images is padded with void. With eval_batch_size 1 nothing is padded.
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
        scale_range: list[float],
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
        if len(scale_range) != 2:
            raise UserError(
                f"data.scale_range must be the smallest and the largest scale, got {list(scale_range)}. "
                "Use e.g. [0.7, 1.4]."
            )
        self.scale_range = (scale_range[0], scale_range[1])
        self.check()

    def check(self) -> None:
        """Check the options.

        Raises:
            UserError: naming the key.
        """
        wrong = [split for split in self.train_splits if split not in ("train", "val")]
        if not self.train_splits or wrong:
            raise UserError(
                f"data.train_splits must be train, val or both, got {self.train_splits}. "
                "Keep test for testing."
            )
        if self.min_annotators <= 0 or (
            self.min_annotators > 1 and self.min_annotators != int(self.min_annotators)
        ):
            raise UserError(
                f"data.min_annotators must be an integer >= 1 or a fraction > 0, got {self.min_annotators}. "
                "Set a number of annotators, or a fraction of them."
            )
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise UserError(
                "data.scale_range must be the smallest and the largest scale, both > 0, "
                f"got {list(self.scale_range)}. Correct them."
            )
        for key, value, least in (
            ("vote_radius", self.vote_radius, 0),
            ("crop", self.crop, 8),
            ("rotation", self.rotation, 0),
        ):
            if value < least:
                raise UserError(f"data.{key} must be >= {least}, got {value}. Raise it.")

    def files(self, split: str) -> dict[str, tuple[Path, Path]]:
        """Return the image and annotation file of each name of a split."""
        return split_files(self.root, split)

    def open_split(self, split: str, training: bool) -> Split:
        """Open a split; in training the union of `train_splits`, with random crops."""
        splits = self.train_splits if training else [split]
        files = {name: pair for one in splits for name, pair in self.files(one).items()}
        crop = self.crop if training else None
        # ignored below: its samples have more fields than the protocol's
        return BsdsImages(
            files,
            self.min_annotators,
            self.vote_radius,
            crop,
            self.scale_range,
            self.rotation,
            self.flip,
            self.seed,
        )  # type: ignore[return-value]
