"""Read SBD (Hariharan et al. 2011): instance and class masks of VOC 2011's images as MATLAB files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from scipy import sparse

from rpe.data.listed import name_similar_file
from rpe.data.mat import MATLAB_7_3, read_mat, refuse_hdf5
from rpe.structures import UserError

HEADER, TAG = 128, 8
"""Bytes of a MATLAB 5 file's header, and of an element's tag (type and length)."""


def read_sbd(
    folder: Path, name: str
) -> tuple[
    UInt8[np.ndarray, "height width"], UInt8[np.ndarray, "rows columns"], Int64[np.ndarray, " object"]
]:
    """Return an image's object map (0 background, k the k-th object), its class map, and each object's class.

    Args:
        folder: `benchmark_RELEASE/dataset`.
        name: of the image, such as 2008_000215.

    Raises:
        UserError: a file is missing, broken, of another structure, or without an object.
    """
    instance_file, class_file = folder / "inst" / f"{name}.mat", folder / "cls" / f"{name}.mat"
    objects, categories = read_fields(instance_file, "GTinst", "Segmentation", "Categories")
    classes, _ = read_fields(class_file, "GTcls", "Segmentation", "CategoriesPresent")
    for file, pixels in ((instance_file, objects), (class_file, classes)):
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise UserError(
                f"Segmentation in {file} must be uint8[height, width], got "
                f"{pixels.dtype}{list(pixels.shape)}. Download the file anew."
            )
    object_classes = categories.astype(np.int64).ravel()
    if not len(object_classes) or not ((objects > 0) & (objects < 255)).any():
        raise UserError(
            f"{instance_file} must hold an instance, got none. "
            f"Replace it, or remove {name} from SBD's train.txt and val.txt."
        )
    highest = int(objects[objects < 255].max())
    if highest > len(object_classes):
        raise UserError(
            f"Categories in {instance_file} must list {highest} objects, got {len(object_classes)}. "
            "Download the file anew."
        )
    return objects, classes, object_classes


def check_file(file: Path) -> None:
    """Refuse a file that is not a MATLAB file or is cut off. Only header and tags are read (0.02 ms).

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
                f"{file} must be a MATLAB 5 file, got one that begins with {header[:10]!r}. Download it anew."
            )
        end = HEADER
        while end + TAG <= size:
            content.seek(end)
            end += TAG + struct.unpack(f"{order}II", content.read(TAG))[1]
    if end > size or end == HEADER:
        raise UserError(f"{file} must be a whole MATLAB file, got {size} bytes. Download it anew.")


def read_fields(file: Path, name: str, *wanted: str) -> list[Any]:
    """Return fields of the one struct in a MATLAB file.

    Raises:
        UserError: the file is missing, or lacks a field.
    """
    if not file.is_file():
        raise UserError(
            f"{file} must exist, as SBD's train.txt or val.txt lists it, got none{name_similar_file(file)}. "
            "Run python -m rpe.tools.download name=sbd"
        )
    content = read_mat(file, "annotation file")
    entry = content.get(name)
    # a cell around the struct
    while isinstance(entry, np.ndarray) and entry.dtype == object and entry.size == 1:
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
            f"{file} must hold {name} with {' and '.join(wanted)}, got {found or 'nothing'}. "
            "Download it anew."
        )
    values = [entry.flat[0][field] for field in wanted]
    return [value.toarray() if sparse.issparse(value) else np.asarray(value) for value in values]
