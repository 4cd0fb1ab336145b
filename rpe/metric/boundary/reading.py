"""Anybody's boundary maps from files: PNG, NPY, MAT."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy import sparse

from rpe.data.image import decode, open_image
from rpe.data.listed import instead_of
from rpe.data.mat import read_mat as read_variables
from rpe.data.pixels import check_single
from rpe.data.thinning import segment_changes
from rpe.structures import UserError

SUFFIXES = (".png", ".npy", ".mat")
LARGEST = {"L": 255, "1": 1, "I;16": 65535, "I": 65535}
"""What stands for 1 in a PNG of each mode."""


@dataclass
class Prediction:
    """An image's boundary map in [0, 1], or in its place one mask for each of several segmentations."""

    file: Path
    map: Float[np.ndarray, "height width"] | None
    masks: list[Bool[np.ndarray, "height width"]]

    def size(self) -> tuple[int, ...]:
        """Height and width."""
        return self.map.shape if self.map is not None else self.masks[0].shape


def doubts(predictions: Iterable[Prediction], lowest: float) -> list[str]:
    """Say of boundary maps what makes their figures zero or worthless, a sentence each.

    Args:
        predictions: all that are scored.
        lowest: the smallest threshold at which they are counted.
    """
    largest: dict[Path, float] = {}
    bright: list[Path] = []
    for one in predictions:
        maps = one.masks if one.map is None else [one.map]
        largest[one.file] = max(float(values.max()) for values in maps)
        if all((values >= 0.5).mean() > 0.5 for values in maps):
            bright.append(one.file)
    total, told = len(largest), []
    empty = [file for file, value in largest.items() if value == 0]
    faint = [file for file, value in largest.items() if 0 < value < lowest]
    if empty:
        told.append(
            f"{len(empty)} of {total} boundary maps are empty, every value is 0, such as {empty[0]}: nothing is found there"
        )
    if faint:
        told.append(
            f"{len(faint)} of {total} boundary maps have no value from the lowest threshold {lowest:g} on, such as {faint[0]} with at most "
            f"{largest[faint[0]]:.2g}: nothing is found there; save maps of 0 and 1 as 0 and 255, or as booleans in NPY"
        )
    if bright:
        told.append(
            f"{len(bright)} of {total} boundary maps have 0.5 or more in most pixels, such as {bright[0]}: are they inverted? boundaries must be bright"
        )
    return told


def find_predictions(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The one file of each name.

    Raises:
        UserError: no such folder, no file for a name, or two.
    """
    if not folder.is_dir():
        raise UserError(
            f"predictions {folder} is no folder: name one with a PNG, NPY or MAT file for each image"
        )
    found: dict[str, Path] = {}
    for name in names:
        there = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()]
        if not there:
            other = instead_of(folder / f"{name}.png")
            raise UserError(
                f"prediction {folder / name}.png (or .npy, .mat) is missing{other}: every image of the split needs one, or restrict names"
            )
        if len(there) > 1:
            raise UserError(f"predictions {there[0]} and {there[1]} are for the same image: keep one")
        found[name] = there[0]
    return found


def read_prediction(file: Path, size: tuple[int, int]) -> Prediction:
    """A prediction for an image of `size` (height, width).

    A PNG is grey, 8 or 16 bits; its largest value stands for 1. An NPY file holds floats in [0, 1], or booleans. A MAT file holds `segs` (a cell
    of segmentations), `ucm2` (an ultrametric contour map of twice the size, read at (3:2:end, 3:2:end)), or else one map in [0, 1].

    Raises:
        UserError: naming the file that does not decode, has another size, or values that are NaN or outside [0, 1].
    """
    read = {".png": read_png, ".npy": read_npy, ".mat": read_mat}[file.suffix]
    try:
        values = read(file)
    except UserError:
        raise
    except Exception as error:  # garbage makes reading fail in every way there is
        raise UserError(
            f"prediction {file} does not decode ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    if isinstance(values, list):
        prediction = Prediction(file, None, [segment_changes(one) for one in values])
        shapes = {one.shape for one in values}
    else:
        prediction = Prediction(file, values, [])
        shapes = {values.shape}
    if shapes != {size}:
        raise UserError(
            f"prediction {file} is {' x '.join(map(str, shapes.pop()))}, but its image {size[0]} x {size[1]} (height x width)"
        )
    if prediction.map is not None:
        refuse_values(prediction.map, file)
    return prediction


def refuse_values(values: Float[np.ndarray, "height width"], file: Path) -> None:
    """Raises: UserError: values that are no strength of a boundary."""
    if np.isnan(values).any():
        raise UserError(f"prediction {file} holds NaN ({int(np.isnan(values).sum())} pixels)")
    if values.min() < 0 or values.max() > 1:
        raise UserError(
            f"prediction {file} has values from {values.min():g} to {values.max():g}: boundary maps lie in [0, 1]"
        )


def read_png(file: Path) -> Float[np.ndarray, "height width"]:
    """A grey PNG in [0, 1]."""
    with open_image(file) as image:
        check_single(image, file)
        if image.mode not in LARGEST:
            raise UserError(
                f"prediction {file} is a PNG of mode {image.mode}: save it grey, with 8 or 16 bits"
            )
        return decode(image, file).astype(np.float64) / LARGEST[image.mode]


def read_npy(file: Path) -> np.ndarray:
    """A map of floats or booleans."""
    values = np.load(file, allow_pickle=False)
    if values.dtype != bool and not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"prediction {file} holds {values.dtype}: save floats in [0, 1], or booleans")
    return flat(values, file).astype(np.float64)


def read_mat(file: Path) -> np.ndarray | list[Int64[np.ndarray, "height width"]]:
    """A map, or segmentations."""
    content = read_variables(file, "prediction")
    if "segs" in content:
        return segmentations(content["segs"], file)
    if "ucm2" in content:
        return flat(numbers(content["ucm2"], "ucm2", file), file)[2::2, 2::2].astype(np.float64)
    if len(content) != 1:
        raise UserError(
            f"prediction {file} holds {', '.join(content) or 'nothing'}: name the map segs, ucm2, or store nothing beside it"
        )
    name, values = next(iter(content.items()))
    return flat(numbers(values, name, file), file).astype(np.float64)


def numbers(values: Any, name: str, file: Path) -> np.ndarray:
    """Raises: UserError: no array of floats, booleans or unsigned integers."""
    if sparse.issparse(values):
        values = values.toarray()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fbu":
        raise UserError(f"prediction {file} holds no map of numbers in {name}")
    return values


def segmentations(cell: Any, file: Path) -> list[Int64[np.ndarray, "height width"]]:
    """The label maps of a cell.

    Raises:
        UserError: no cell, an empty one, or one that holds something else than whole numbers on two axes.
    """
    if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size == 0:
        raise UserError(
            f"prediction {file} has a segs that is no cell of label maps: save it as {{map}}, one map for each segmentation"
        )
    for one in cell.ravel():
        if (
            not isinstance(one, np.ndarray)
            or one.ndim != 2
            or one.dtype.kind not in "iuf"
            or not (np.isfinite(one) & (one == np.floor(one))).all()
        ):
            raise UserError(
                f"prediction {file} has a segs that holds something else than maps of whole numbers, one for each segment"
            )
    return [one.astype(np.int64) for one in cell.ravel()]


def flat(values: np.ndarray, file: Path) -> np.ndarray:
    """Raises: UserError: not two axes."""
    if values.ndim != 2:
        raise UserError(f"prediction {file} has {values.ndim} axes: a boundary map has two, height and width")
    return values
