"""Read boundary maps from PNG, NPY and MAT files of any tool."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy import sparse

from rpe.data.image import decode, open_image
from rpe.data.listed import name_similar_file
from rpe.data.mat import read_mat as read_variables
from rpe.data.pixels import check_single
from rpe.data.thinning import segment_changes
from rpe.structures import UserError

SUFFIXES = (".png", ".npy", ".mat")
FULL_SCALE = {"L": 255, "1": 1, "I;16": 65535, "I": 65535}
"""The value that means 1 in a PNG of each mode."""


@dataclass
class Prediction:
    """An image's boundary map in [0, 1], or instead one mask for each of several segmentations."""

    file: Path
    map: Float[np.ndarray, "height width"] | None
    masks: list[Bool[np.ndarray, "height width"]]

    def size(self) -> tuple[int, ...]:
        """Return height and width."""
        return self.map.shape if self.map is not None else self.masks[0].shape


def find_doubtful_maps(predictions: Iterable[Prediction], lowest: float) -> list[str]:
    """Return one sentence for each reason why boundary maps would score zero or near it.

    Args:
        predictions: the scored maps.
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
            f"{len(empty)} of {total} boundary maps are empty (every value is 0), for example {empty[0]}. "
            "They score 0."
        )
    if faint:
        told.append(
            f"{len(faint)} of {total} boundary maps have no value above the lowest threshold {lowest:g}, "
            f"for example {faint[0]} with at most {largest[faint[0]]:.2g}. They score 0. "
            "Save maps of 0 and 1 as 0 and 255, or as booleans in NPY."
        )
    if bright:
        told.append(
            f"{len(bright)} of {total} boundary maps are >= 0.5 in most pixels, for example {bright[0]}. "
            "Boundaries must be bright. Are the maps inverted?"
        )
    return told


def find_predictions(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the file of each name.

    Raises:
        UserError: the folder is missing, or a name has no file or two.
    """
    if not folder.is_dir():
        raise UserError(
            f"predictions must be a folder, got {folder}. Name one with a PNG, NPY or MAT file per image."
        )
    found: dict[str, Path] = {}
    for name in names:
        there = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()]
        if not there:
            other = name_similar_file(folder / f"{name}.png")
            raise UserError(
                f"prediction {folder / name}.png (or .npy, .mat) must exist, got none{other}. "
                "Add one for every image of the split, or restrict names."
            )
        if len(there) > 1:
            raise UserError(
                f"predictions must hold one file per image, got {there[0]} and {there[1]}. Remove one."
            )
        found[name] = there[0]
    return found


def read_prediction(file: Path, size: tuple[int, int]) -> Prediction:
    """Read the prediction for an image of `size` (height, width).

    A PNG is grey with 8 or 16 bits; its largest possible value means 1. An NPY file holds floats in [0, 1] or
    booleans. A MAT file holds `segs` (a cell of segmentations), `ucm2` (an ultrametric contour map of twice
    the size, read at (3:2:end, 3:2:end)), or a single map in [0, 1].

    Raises:
        UserError: the file does not decode, has another size, or holds values that are NaN or outside [0, 1].
    """
    read = {".png": read_png_map, ".npy": read_npy_map, ".mat": read_mat_map}[file.suffix]
    try:
        values = read(file)
    except UserError:
        raise
    except Exception as error:  # broken files raise errors of any type
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"prediction {file} must decode, got {reason}. Write it anew.") from error
    if isinstance(values, list):
        prediction = Prediction(file, None, [segment_changes(one) for one in values])
        shapes = {one.shape for one in values}
    else:
        prediction = Prediction(file, values, [])
        shapes = {values.shape}
    if shapes != {size}:
        raise UserError(
            f"prediction {file} must be {size[0]} x {size[1]} (height x width) as its image, "
            f"got {' x '.join(map(str, shapes.pop()))}. Resize it."
        )
    if prediction.map is not None:
        check_values(prediction.map, file)
    return prediction


def check_values(values: Float[np.ndarray, "height width"], file: Path) -> None:
    """Check that all values are in [0, 1], none of them NaN.

    Raises:
        UserError: a value is not.
    """
    if np.isnan(values).any():
        raise UserError(
            f"prediction {file} must be in [0, 1], got NaN in {int(np.isnan(values).sum())} pixels. "
            "Correct them."
        )
    if values.min() < 0 or values.max() > 1:
        raise UserError(
            f"prediction {file} must be in [0, 1], got {values.min():g} to {values.max():g}. Rescale it."
        )


def read_png_map(file: Path) -> Float[np.ndarray, "height width"]:
    """Read a grey PNG, scaled to [0, 1].

    Raises:
        UserError: it is not grey, with 8 or 16 bits.
    """
    with open_image(file) as image:
        check_single(image, file)
        if image.mode not in FULL_SCALE:
            raise UserError(
                f"prediction {file} must be a grey PNG with 8 or 16 bits, got mode {image.mode}. Convert it."
            )
        return decode(image, file).astype(np.float64) / FULL_SCALE[image.mode]


def read_npy_map(file: Path) -> np.ndarray:
    """Read a map of floats or booleans.

    Raises:
        UserError: it holds another type.
    """
    values = np.load(file, allow_pickle=False)
    if values.dtype != bool and not np.issubdtype(values.dtype, np.floating):
        raise UserError(
            f"prediction {file} must hold floats in [0, 1] or booleans, got {values.dtype}. Convert it."
        )
    return check_two_axes(values, file).astype(np.float64)


def read_mat_map(file: Path) -> np.ndarray | list[Int64[np.ndarray, "height width"]]:
    """Read a map or segmentations.

    Raises:
        UserError: it holds neither.
    """
    content = read_variables(file, "prediction")
    if "segs" in content:
        return read_segmentations(content["segs"], file)
    if "ucm2" in content:
        return check_two_axes(check_numeric(content["ucm2"], "ucm2", file), file)[2::2, 2::2].astype(
            np.float64
        )
    if len(content) != 1:
        raise UserError(
            f"prediction {file} must hold segs, ucm2, or one map, got {', '.join(content) or 'nothing'}. "
            "Save one of them."
        )
    name, values = next(iter(content.items()))
    return check_two_axes(check_numeric(values, name, file), file).astype(np.float64)


def check_numeric(values: Any, name: str, file: Path) -> np.ndarray:
    """Return the values as a dense array after a check.

    Raises:
        UserError: they are not floats, booleans or unsigned integers.
    """
    if sparse.issparse(values):
        values = values.toarray()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fbu":
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(f"{name} of prediction {file} must be a map of numbers, got {found}. Save it anew.")
    return values


def read_segmentations(cell: Any, file: Path) -> list[Int64[np.ndarray, "height width"]]:
    """Return the label maps of a MATLAB cell.

    Raises:
        UserError: not a cell, an empty one, or one with anything but integers on two axes.
    """
    if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size == 0:
        raise UserError(
            f"segs of prediction {file} must be a cell of label maps, got another type or an empty cell. "
            "Save it as {map}, one map for each segmentation."
        )
    for one in cell.ravel():
        if (
            not isinstance(one, np.ndarray)
            or one.ndim != 2
            or one.dtype.kind not in "iuf"
            or not (np.isfinite(one) & (one == np.floor(one))).all()
        ):
            raise UserError(
                f"segs of prediction {file} must hold maps of integers, one for each segmentation, "
                "got other values. Save it anew."
            )
    return [one.astype(np.int64) for one in cell.ravel()]


def check_two_axes(values: np.ndarray, file: Path) -> np.ndarray:
    """Return the values, checked to have two axes.

    Raises:
        UserError: they have another number of axes.
    """
    if values.ndim != 2:
        raise UserError(
            f"prediction {file} must have two axes, height and width, got {values.ndim}. Save one grey map."
        )
    return values
