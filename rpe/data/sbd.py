"""SBD, the Semantic Boundaries Dataset (Hariharan et al. 2011): instances and classes of VOC 2011's images as MATLAB files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from scipy import sparse

from rpe.data.listed import instead_of
from rpe.data.mat import MATLAB_7_3, read_mat, refuse_hdf5
from rpe.structures import UserError

HEADER, TAG = 128, 8
"""Bytes of a MATLAB 5 file's header, and of what each part begins with: its type and its length."""


def read_sbd(
    folder: Path, name: str
) -> tuple[
    UInt8[np.ndarray, "height width"], UInt8[np.ndarray, "rows columns"], Int64[np.ndarray, " object"]
]:
    """An image's object map (0 background, k the k-th object), its class map, and the class of each object.

    Args:
        folder: `benchmark_RELEASE/dataset`.
        name: of the image, such as 2008_000215.

    Raises:
        UserError: a file is absent, broken, of another structure, or without an object.
    """
    instance_file, class_file = folder / "inst" / f"{name}.mat", folder / "cls" / f"{name}.mat"
    objects, categories = fields(instance_file, "GTinst", "Segmentation", "Categories")
    classes, _ = fields(class_file, "GTcls", "Segmentation", "CategoriesPresent")
    for file, pixels in ((instance_file, objects), (class_file, classes)):
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise UserError(
                f"{file} has another structure than SBD's: Segmentation is {pixels.dtype}{list(pixels.shape)}, not uint8[height, width]"
            )
    class_of = categories.astype(np.int64).ravel()
    if not len(class_of) or not ((objects > 0) & (objects < 255)).any():
        raise UserError(
            f"{instance_file} holds no instance: replace it, or take {name} out of SBD's train.txt and val.txt"
        )
    highest = int(objects[objects < 255].max())
    if highest > len(class_of):
        raise UserError(f"{instance_file} has an object {highest}, but categories for {len(class_of)} alone")
    return objects, classes, class_of


def check_file(file: Path) -> None:
    """Refuse what is no MATLAB file or not a whole one, by its header and the lengths that its parts tell; none is unpacked (0.02 ms).

    Raises:
        UserError: naming the file.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        header = content.read(HEADER)
        if header.startswith(MATLAB_7_3):
            refuse_hdf5(file, "annotation file")
        order = {b"IM": "<", b"MI": ">"}.get(header[-2:])
        if len(header) < HEADER or not header.startswith(b"MATLAB 5.0") or order is None:
            raise UserError(
                f"{file} is no MATLAB file that can be read (it begins with {header[:10]!r}): download it anew"
            )
        end = HEADER
        while end + TAG <= size:
            content.seek(end)
            end += TAG + struct.unpack(f"{order}II", content.read(TAG))[1]
    if end > size or end == HEADER:
        raise UserError(f"{file} is no whole MATLAB file (it has {size} bytes): download it anew")


def fields(file: Path, name: str, *wanted: str) -> list[Any]:
    """Fields of the one struct in a MATLAB file."""
    if not file.is_file():
        raise UserError(
            f"{file} does not exist, but SBD's train.txt or val.txt lists it{instead_of(file)}: python -m rpe.tools.download name=sbd completes the download"
        )
    content = read_mat(file, "annotation file")
    entry = content.get(name)
    while (
        isinstance(entry, np.ndarray) and entry.dtype == object and entry.size == 1
    ):  # a cell around the struct
        entry = entry.item()
    names = entry.dtype.names or () if isinstance(entry, np.ndarray) else ()
    if not isinstance(entry, np.ndarray) or entry.size != 1 or not set(wanted) <= set(names):
        held = {
            key: f"{value.size} structs of {', '.join(value.dtype.names)}"
            for key, value in content.items()
            if getattr(value, "dtype", None) and value.dtype.names
        }
        found = ", ".join(f"{key} ({held[key]})" if key in held else key for key in content)
        raise UserError(
            f"{file} has another structure than SBD's: {name} with {' and '.join(wanted)} is wanted, it holds {found or 'nothing'}"
        )
    values = [entry.flat[0][field] for field in wanted]
    return [value.toarray() if sparse.issparse(value) else np.asarray(value) for value in values]
