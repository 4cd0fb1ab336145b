"""Read and check annotation files in COCO's instance format, and keep them in a few arrays."""

import gc
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from rpe.data.annotation_check import check_truth, measure_areas, note_wrong_areas, refuse_empty
from rpe.data.module import normal_name
from rpe.errors import note
from rpe.rle import compress, mask_area, mask_box
from rpe.structures import RunLength, Truth, UserError


def make_annotation(number: int, image_id: int, category: int, mask: RunLength) -> dict[str, Any]:
    """Return a mask as a COCO annotation with the id `number`."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "iscrowd": 0,
        "area": mask_area(mask),
        "bbox": [float(value) for value in mask_box(mask)],
        "segmentation": mask,
    }


@dataclass
class Annotations:
    """All annotations of a split in a few arrays.

    Python objects would grow each worker's memory page by page. `codes[starts[k]:starts[k + 1]]` is the mask
    of annotation k as JSON text. Annotations are sorted by image: `first[i]:first[i + 1]` belong to image i.
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
        """Return the mask of an annotation."""
        code = json.loads(self.codes[self.starts[annotation] : self.starts[annotation + 1]].tobytes())
        height, width = (int(length) for length in self.sizes[image])
        return compress(code, (height, width))


def read_truth(file: Path) -> Truth:
    """Read an annotation file and check everything that training and evaluation rely on.

    Raises:
        UserError: the file is missing, not JSON, not in COCO's layout, empty, or refused by `check_truth`.
    """
    if not file.is_file():
        raise UserError(
            f"annotation file {file} must exist, got none. Set data.root or RPE_DATA_DIR to its folder."
        )
    truth: Truth = read_json(file, f"annotation file {file}")
    if not isinstance(truth, dict):
        raise UserError(
            f"annotation file {file} must hold images, annotations and categories, "
            f"got {describe_json(truth)}. Export it in COCO's instance format."
        )
    missing = [key for key in ("images", "annotations", "categories") if key not in truth]
    if missing:
        raise UserError(
            f"annotation file {file} must have {missing[0]}, got {describe_json(truth)}. "
            "Export it in COCO's instance format."
        )
    if not truth["annotations"]:
        raise UserError(
            f"annotation file {file} must hold an annotation, got none. Name the split's instance file."
        )
    check_truth(truth, file)
    for annotation in truth["annotations"]:
        annotation.setdefault("iscrowd", 0)
    return truth


def read_json(file: Path, what: str) -> Any:
    """Read a JSON file with garbage collection off, which is twice as fast for many objects.

    Args:
        what: names the file in messages.

    Raises:
        UserError: it is not JSON. The message says what it is instead.
    """
    text = file.read_bytes()
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(
            f"{what} must nest lists less than some hundred levels deep, got more. Export it anew."
        ) from None
    except ValueError as error:
        raise UserError(f"{what} must be JSON, got {explain_json_error(text, error)}") from error
    finally:
        if collecting:
            gc.enable()


def explain_json_error(text: bytes, error: ValueError) -> str:
    """Return what a text is instead of JSON, and the fix: the end of a message."""
    if not text.strip():
        return "an empty file. Complete the download."
    if text[:2] == b"PK":
        return "a ZIP file. Unpack it."
    if isinstance(error, UnicodeDecodeError):
        known = {
            b"\x1f\x8b": "a gzip file. Unpack it.",
            b"\x89P": "a PNG image. Name a JSON file.",
            b"\x93N": "a NumPy file. Name a JSON file.",
        }
        other = f"text not in UTF-8 ({error.reason} at byte {error.start:,}). Save it as UTF-8."
        return known.get(text[:2], other)
    if text.lstrip().startswith(b"<"):
        return "text that begins with '<', as HTML and XML do. Download it anew."
    if not isinstance(error, json.JSONDecodeError):
        return f"an error ({error}). Export it anew."
    where = f"{error.msg} at line {error.lineno:,}, column {error.colno:,}"
    if error.msg == "Extra data":
        return f"a second value after the first ({where}). Write one list, not one object a line."
    if not error.doc[error.pos :].strip():
        return f"a file that ends too early ({where}). Complete the download."
    return f"an error ({where}). Export it anew."


def describe_json(value: Any) -> str:
    """Describe the top level of a JSON file, for messages."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:5])) or 'no key'}"[:200]
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    return json.dumps(value)[:100]


def read_split(file: Path, names: Sequence[str] | None, key: str, skip_empty: bool) -> tuple[Truth, set[int]]:
    """Read an annotation file. Return the annotations of the named categories (None: of all), and their ids.

    Args:
        key: the option that names the categories, for messages.
        skip_empty: accept masks without a pixel.

    Raises:
        UserError: `read_truth` or `refuse_empty` refuse it, a name is unknown, or no object is left.
    """
    whole = read_truth(file)
    areas = measure_areas(whole)
    if not skip_empty:
        refuse_empty(whole, file, areas)
    note_wrong_areas(whole, file, areas)
    note_shared_names(whole, file)
    chosen = find_category_ids(whole, names, key)
    truth = keep_categories(whole, chosen)
    if all(annotation["iscrowd"] for annotation in truth["annotations"]):
        chosen_by = f" of data.{key} {list(names)}" if names is not None else ""
        raise UserError(
            f"annotation file {file} must hold an object{chosen_by}, got none but crowds. "
            "Name another file or other categories."
        )
    return truth, chosen


def find_category_ids(truth: Truth, names: Sequence[str] | None, key: str) -> set[int]:
    """Return the ids of all categories with these names. None selects all categories.

    Raises:
        UserError: a name that the file does not hold.
    """
    if names is None:
        return {category["id"] for category in truth["categories"]}
    by_name = group_ids_by_name(truth)
    unknown = [name for name in names if normal_name(name) not in by_name]
    if unknown:
        raise UserError(
            f"data.{key} must name categories of the data, got {unknown[0]!r}. "
            f"Choose among {', '.join(list(by_name)[:8])}{' ..' if len(by_name) > 8 else '.'}"
        )
    return {number for name in names for number in by_name[normal_name(name)]}


def group_ids_by_name(truth: Truth) -> dict[str, list[int]]:
    """Return the category ids of each name, spelled as by `normal_name`."""
    ids: dict[str, list[int]] = defaultdict(list)
    for category in truth["categories"]:
        ids[normal_name(category["name"])].append(category["id"])
    return ids


def note_shared_names(truth: Truth, file: Path) -> None:
    """Print a line if several category ids share a name, as in merged exports."""
    shared = {name: ids for name, ids in group_ids_by_name(truth).items() if len(ids) > 1}
    if shared:
        named = "; ".join(f"{name!r} is {', '.join(map(str, ids))}" for name, ids in list(shared.items())[:5])
        note(
            f"category names repeat in {file}: {named}; a name in data.*_categories selects all its ids, "
            "each id is a class of its own"
        )


def keep_categories(truth: Truth, chosen: set[int]) -> Truth:
    """Return the truth with the annotations of these categories alone. All images and all void stay."""
    kept = [
        annotation
        for annotation in truth["annotations"]
        if annotation["category_id"] in chosen or annotation.get("void", False)
    ]
    return {**truth, "annotations": kept}


def compact(truth: Truth) -> Annotations:
    """Convert a truth to arrays."""
    images = sorted(truth["images"], key=lambda image: image["id"])
    positions = {image["id"]: index for index, image in enumerate(images)}
    annotations = sorted(truth["annotations"], key=lambda annotation: positions[annotation["image_id"]])
    codes = [json.dumps(annotation["segmentation"]).encode() for annotation in annotations]
    owners = np.array([positions[annotation["image_id"]] for annotation in annotations], dtype=np.int64)
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
