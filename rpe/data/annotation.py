"""Annotation files in COCO's instance format: read, checked, and kept in a few arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from rpe.data.annotation_check import check_truth, refuse_empty, run_length_of
from rpe.data.module import Truth
from rpe.structures import RunLength, UserError


@dataclass
class Annotations:
    """All annotations of a split in a few arrays: as Python objects they would grow every worker's memory page by page.

    An annotation's mask lies in `codes[start:start + length]` as JSON text. Annotations are sorted by image; those of image i are
    `first[i]:first[i + 1]`.
    """

    image_ids: Int64[np.ndarray, " image"]
    sizes: Int64[np.ndarray, "image 2"]
    names: np.ndarray
    first: Int64[np.ndarray, " image_and_one"]
    ids: Int64[np.ndarray, " annotation"]
    categories: Int64[np.ndarray, " annotation"]
    crowds: np.ndarray
    areas: Float[np.ndarray, " annotation"]
    starts: Int64[np.ndarray, " annotation_and_one"]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def mask(self, annotation: int, image: int) -> RunLength:
        """The mask of an annotation."""
        code = json.loads(self.codes[self.starts[annotation] : self.starts[annotation + 1]].tobytes())
        height, width = (int(length) for length in self.sizes[image])
        return run_length_of(code, height, width)


def read_truth(file: Path) -> Truth:
    """An annotation file, checked for what training and evaluation rely on.

    Raises:
        UserError: no such file, not JSON, not COCO's layout, no annotation, or an entry that `check_truth` refuses.
    """
    if not file.is_file():
        raise UserError(f"annotation file {file} does not exist: set data.root or RPE_DATA_DIR to where it lies")
    try:
        truth: Truth = json.loads(file.read_bytes())
    except ValueError as error:
        raise UserError(f"annotation file {file} is not JSON ({error}): is the download complete?") from error
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(truth, dict) or key not in truth]
    if missing:
        raise UserError(f"annotation file {file} has no {missing[0]}: it is not in COCO's instance format")
    if not truth["annotations"]:
        raise UserError(f"annotation file {file} holds no annotation at all: name the split's instance file")
    check_truth(truth, file)
    for annotation in truth["annotations"]:
        annotation.setdefault("iscrowd", 0)
    return truth


def read_split(file: Path, names: Sequence[str] | None, key: str, skip_empty: bool) -> tuple[Truth, set[int]]:
    """An annotation file with the annotations of the named categories alone (None is all), and these categories' ids.

    Args:
        key: of the option that named them, for messages.
        skip_empty: a mask without a pixel is no fault.

    Raises:
        UserError: what `read_truth` or `refuse_empty` refuse, a name that is unknown, or no object of these categories.
    """
    whole = read_truth(file)
    if not skip_empty:
        refuse_empty(whole, file)
    chosen = category_ids(whole, names, key)
    truth = only_categories(whole, chosen)
    if all(annotation["iscrowd"] for annotation in truth["annotations"]):
        within = f" of data.{key} {list(names)}" if names is not None else ""
        raise UserError(f"annotation file {file} holds no object{within}, at most crowds: name a file or categories that have some")
    return truth, chosen


def category_ids(truth: Truth, names: Sequence[str] | None, key: str) -> set[int]:
    """The ids of the named categories; all for None.

    Raises:
        UserError: a name that the file does not hold.
    """
    by_name = {category["name"]: category["id"] for category in truth["categories"]}
    unknown = [name for name in names or [] if name not in by_name]
    if unknown:
        raise UserError(f"data.{key} names {unknown[0]!r}, which is no category of the data: it has {', '.join(list(by_name)[:8])} ...")
    return {by_name[name] for name in names} if names is not None else set(by_name.values())


def only_categories(truth: Truth, chosen: set[int]) -> Truth:
    """The truth without the annotations of other categories; all images stay, and what is void, as it is of no category."""
    kept = [annotation for annotation in truth["annotations"] if annotation["category_id"] in chosen or annotation.get("void", False)]
    return {**truth, "annotations": kept}


def compact(truth: Truth) -> Annotations:
    """The truth in arrays."""
    images = sorted(truth["images"], key=lambda image: image["id"])
    place = {image["id"]: index for index, image in enumerate(images)}
    annotations = sorted(truth["annotations"], key=lambda annotation: place[annotation["image_id"]])
    codes = [json.dumps(annotation["segmentation"]).encode() for annotation in annotations]
    owners = np.array([place[annotation["image_id"]] for annotation in annotations], dtype=np.int64)
    return Annotations(
        image_ids=np.array([image["id"] for image in images], dtype=np.int64),
        sizes=np.array([(image["height"], image["width"]) for image in images], dtype=np.int64).reshape(-1, 2),
        names=np.array([image["file_name"].encode() for image in images]),
        first=np.searchsorted(owners, np.arange(len(images) + 1)).astype(np.int64),
        ids=np.array([annotation["id"] for annotation in annotations], dtype=np.int64),
        categories=np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64),
        crowds=np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], dtype=bool),
        areas=np.array([annotation["area"] for annotation in annotations], dtype=np.float64),
        starts=np.concatenate([[0], np.cumsum([len(code) for code in codes])]).astype(np.int64),
        codes=np.frombuffer(b"".join(codes), dtype=np.uint8),
    )
