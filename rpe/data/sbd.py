"""SBD, the Semantic Boundaries Dataset (Hariharan et al. 2011): instances and classes of VOC 2011's images as MATLAB files."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from scipy.io import loadmat

from rpe.structures import InputError


def read_sbd(folder: Path, name: str) -> tuple[UInt8[np.ndarray, "height width"], UInt8[np.ndarray, "rows columns"], Int64[np.ndarray, " object"]]:
    """An image's object map (0 background, k the k-th object), its class map, and the class of each object.

    Args:
        folder: `benchmark_RELEASE/dataset`.
        name: of the image, such as 2008_000215.

    Raises:
        InputError: a file is absent, broken, of another structure, or without an object.
    """
    instance_file, class_file = folder / "inst" / f"{name}.mat", folder / "cls" / f"{name}.mat"
    objects, categories = fields(instance_file, "GTinst", "Segmentation", "Categories")
    classes, _ = fields(class_file, "GTcls", "Segmentation", "CategoriesPresent")
    for file, pixels in ((instance_file, objects), (class_file, classes)):
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise InputError(f"{file} has another structure than SBD's: Segmentation is {pixels.dtype}{list(pixels.shape)}, not uint8[height, width]")
    class_of = categories.astype(np.int64).ravel()
    if not len(class_of) or not ((objects > 0) & (objects < 255)).any():
        raise InputError(f"{instance_file} holds no instance: replace it, or take {name} out of SBD's train.txt and val.txt")
    highest = int(objects[objects < 255].max())
    if highest > len(class_of):
        raise InputError(f"{instance_file} has an object {highest}, but categories for {len(class_of)} alone")
    return objects, classes, class_of


def fields(file: Path, name: str, *wanted: str) -> list[Any]:
    """Fields of the one struct in a MATLAB file."""
    if not file.is_file():
        raise InputError(
            f"{file} does not exist, but SBD's train.txt or val.txt lists it: python -m rpe.data.download name=sbd completes the download"
        )
    try:
        content = loadmat(file)
    except Exception as error:  # scipy lets through whatever its parsing and zlib raise
        raise InputError(f"{file} is no MATLAB file that can be read ({type(error).__name__}): download it anew") from error
    struct = content.get(name)
    names = () if struct is None else struct.dtype.names or ()
    if struct is None or struct.size != 1 or not set(wanted) <= set(names):
        found = ", ".join(key for key in content if not key.startswith("__"))
        raise InputError(f"{file} has another structure than SBD's: {name} with {' and '.join(wanted)} is wanted, it holds {found or 'nothing'}")
    return [np.asarray(struct.flat[0][field]) for field in wanted]
