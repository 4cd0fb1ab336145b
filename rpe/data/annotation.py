"""Annotation files in COCO's instance format: read, checked, and kept in a few arrays."""

import gc
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from rpe.data.annotation_check import check_truth, drawn_areas, refuse_empty, run_length_of, tell_areas
from rpe.data.module import Truth, normal_name
from rpe.errors import note
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
        raise UserError(
            f"annotation file {file} does not exist: set data.root or RPE_DATA_DIR to where it lies"
        )
    truth: Truth = read_json(file, f"annotation file {file}")
    if not isinstance(truth, dict):
        raise UserError(
            f"annotation file {file} {described(truth)}: COCO's instance format has images, annotations and categories"
        )
    missing = [key for key in ("images", "annotations", "categories") if key not in truth]
    if missing:
        raise UserError(
            f"annotation file {file} has no {missing[0]}: it is not in COCO's instance format, but {described(truth)}"
        )
    if not truth["annotations"]:
        raise UserError(f"annotation file {file} holds no annotation at all: name the split's instance file")
    check_truth(truth, file)
    for annotation in truth["annotations"]:
        annotation.setdefault("iscrowd", 0)
    return truth


def read_json(file: Path, what: str) -> Any:
    """Read a JSON file, twice as fast as with a collector of garbage that walks through all objects time and again.

    Args:
        what: the file's part, for messages.

    Raises:
        UserError: it is not JSON, in words that tell what it is instead.
    """
    text = file.read_bytes()
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(
            f"{what} is not JSON that this program reads: lists within lists, hundreds of levels deep"
        ) from None
    except ValueError as error:
        raise UserError(f"{what} is not JSON: {fault_of(text, error)}") from error
    finally:
        if collecting:
            gc.enable()


def fault_of(text: bytes, error: ValueError) -> str:
    """Tell why a text is not JSON, and what to do."""
    start = text.lstrip()[:1]
    if not text.strip():
        return "it is empty; is the download complete?"
    if isinstance(error, UnicodeDecodeError):
        known = {
            b"\x1f\x8b": "a gzip file; unpack it",
            b"PK": "a ZIP file; unpack it",
            b"\x89P": "a PNG image",
            b"\x93N": "a NumPy file",
        }
        return f"it is {known.get(text[:2], f'no UTF-8 text ({error.reason} at byte {error.start:,}); save it as UTF-8')}"
    if text[:2] == b"PK":
        return "it is a ZIP file; unpack it"
    if start == b"<":
        return "it begins with '<' as a web page or XML does; is it an error page of the download?"
    if isinstance(error, json.JSONDecodeError):
        where = f"{error.msg} at line {error.lineno:,}, column {error.colno:,}"
        if error.msg == "Extra data":
            return f"a second value follows the first ({where}); write one list, not one object a line"
        return (
            f"it ends too early ({where}); is the download complete?"
            if not error.doc[error.pos :].strip()
            else where
        )
    return str(error)


def described(value: Any) -> str:
    """Tell what a JSON file holds on its top level."""
    if isinstance(value, dict):
        return f"holds an object with {', '.join(map(repr, list(value)[:5])) or 'no key'}"[:200]
    if isinstance(value, list):
        return f"holds a list of {len(value):,}"
    return f"holds {json.dumps(value)[:100]}"


def read_split(file: Path, names: Sequence[str] | None, key: str, skip_empty: bool) -> tuple[Truth, set[int]]:
    """Read an annotation file with the annotations of the named categories alone (None is all), and these categories' ids.

    Args:
        key: of the option that named them, for messages.
        skip_empty: a mask without a pixel is no fault.

    Raises:
        UserError: what `read_truth` or `refuse_empty` refuse, a name that is unknown, or no object of these categories.
    """
    whole = read_truth(file)
    areas = drawn_areas(whole)
    if not skip_empty:
        refuse_empty(whole, file, areas)
    tell_areas(whole, file, areas)
    tell_shared_names(whole, file)
    chosen = category_ids(whole, names, key)
    truth = only_categories(whole, chosen)
    if all(annotation["iscrowd"] for annotation in truth["annotations"]):
        within = f" of data.{key} {list(names)}" if names is not None else ""
        raise UserError(
            f"annotation file {file} holds no object{within}, at most crowds: name a file or categories that have some"
        )
    return truth, chosen


def category_ids(truth: Truth, names: Sequence[str] | None, key: str) -> set[int]:
    """Return all ids that bear one of the names; all ids for None.

    Raises:
        UserError: a name that the file does not hold.
    """
    if names is None:
        return {category["id"] for category in truth["categories"]}
    by_name = ids_by_name(truth)
    unknown = [name for name in names if normal_name(name) not in by_name]
    if unknown:
        raise UserError(
            f"data.{key} names {unknown[0]!r}, which is no category of the data: it has {', '.join(list(by_name)[:8])} ..."
        )
    return {number for name in names for number in by_name[normal_name(name)]}


def ids_by_name(truth: Truth) -> dict[str, list[int]]:
    """Return the category ids that bear each name, as `normal_name` spells it."""
    ids: dict[str, list[int]] = defaultdict(list)
    for category in truth["categories"]:
        ids[normal_name(category["name"])].append(category["id"])
    return ids


def tell_shared_names(truth: Truth, file: Path) -> None:
    """Print one line where several category ids share a name, as in merged exports."""
    shared = {name: ids for name, ids in ids_by_name(truth).items() if len(ids) > 1}
    if shared:
        named = "; ".join(f"{name!r} is {', '.join(map(str, ids))}" for name, ids in list(shared.items())[:5])
        note(
            f"category names repeat in {file}: {named}; a name in data.*_categories means every id that bears it, classes go by id"
        )


def only_categories(truth: Truth, chosen: set[int]) -> Truth:
    """The truth without the annotations of other categories; all images stay, and what is void, as it is of no category."""
    kept = [
        annotation
        for annotation in truth["annotations"]
        if annotation["category_id"] in chosen or annotation.get("void", False)
    ]
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
        sizes=np.array([(image["height"], image["width"]) for image in images], dtype=np.int64).reshape(
            -1, 2
        ),
        names=np.array([image["file_name"].encode() for image in images]),
        first=np.searchsorted(owners, np.arange(len(images) + 1)).astype(np.int64),
        ids=np.array([annotation["id"] for annotation in annotations], dtype=np.int64),
        categories=np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64),
        crowds=np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], dtype=bool),
        starts=np.concatenate([[0], np.cumsum([len(code) for code in codes])]).astype(np.int64),
        codes=np.frombuffer(b"".join(codes), dtype=np.uint8),
    )
