"""Read predictions for a split, and select the images of its truth that they are scored on."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath, splitext
from typing import Any

from rpe.data.annotation import describe_json, read_json
from rpe.data.module import normal_name, resolve_names
from rpe.errors import note
from rpe.metric.packed_rows import PackedRows
from rpe.metric.results import as_json, is_id
from rpe.structures import Truth, UserError
from rpe.task.base import Scoring

READ_AT_ONCE = 2**24
"""Characters of a results file that are read at a time."""

WHITESPACE = re.compile(r"[ \t\n\r]*")


def keep_images(truth: Truth, image_ids: Collection[int]) -> Truth:
    """Return the truth of some images."""
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in image_ids],
        "annotations": [
            annotation for annotation in truth["annotations"] if annotation["image_id"] in image_ids
        ],
    }


def select_names(truth: Truth, names: list[str | int] | None) -> Truth:
    """Return the truth of all images with one of the names, without folder and suffix; None keeps all images.

    Raises:
        UserError: see `resolve_names`.
    """
    if names is None:
        return truth
    stems = {image["id"]: Path(image["file_name"]).stem for image in truth["images"]}
    chosen = set(resolve_names(names, list(dict.fromkeys(stems.values()))))
    return keep_images(truth, {image_id for image_id, stem in stems.items() if stem in chosen})


def keep_rows(results: Sequence[Any], truth: Truth) -> list[Any]:
    """Return the results for the images of a truth. Malformed rows stay, as scoring refuses them."""
    chosen = {image["id"] for image in truth["images"]}
    return [
        row
        for row in results
        if not isinstance(row, dict) or not is_id(row.get("image_id")) or row["image_id"] in chosen
    ]


def refuse_thresholds(scoring: Scoring) -> None:
    """Refuse `thresholds`, an option of boundary maps, for masks.

    Raises:
        UserError: it is set.
    """
    if scoring.thresholds is not None:
        raise UserError(
            f"thresholds must be given for boundary maps only, got {scoring.thresholds}. "
            "Remove it, or set task=boundary."
        )


def read_results(file: Path) -> Sequence[Any]:
    """Read a COCO results file; rows that all have the form of `PackedRows` are packed.

    Raises:
        UserError: the file is missing, or not a JSON list.
    """
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "does not exist"
        raise UserError(
            f"predictions must be a COCO results file, got {file}, which {problem}. Name a JSON list."
        )
    if packed := read_packed(file):
        return packed
    rows = read_json(file, f"predictions {file}")
    if isinstance(rows, dict) and "annotations" in rows:
        raise UserError(
            f"predictions {file} must be a list of COCO results, "
            f"got an annotation file ({describe_json(rows)}). Name a list of rows that have a score."
        )
    if not isinstance(rows, list):
        raise UserError(
            f"predictions {file} must be a list of COCO results, got {describe_json(rows)}. "
            "Export one list of rows."
        )
    return rows


def read_packed(file: Path) -> PackedRows | None:
    """Read a list of rows block by block; None where the file holds anything else.

    A whole file as text and as dicts takes four times its size.
    """
    rows, decode = PackedRows(), json.JSONDecoder().raw_decode
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(READ_AT_ONCE)
            end = skip_space(text, 0)
            mark = text[end : end + 1]
            while mark == ("," if rows else "["):
                start = skip_space(text, end + 1)
                try:
                    row, end = decode(text, start)
                    end = skip_space(text, end)
                    mark = text[end]
                except (ValueError, IndexError):  # the block ends here, or the row is broken
                    block = stream.read(READ_AT_ONCE)
                    if not block or len(text) - start > READ_AT_ONCE:
                        return None
                    text, end = mark + text[start:] + block, 0
                    continue
                if not rows.append(row):
                    return None
            complete = mark == "]" and WHITESPACE.fullmatch(text[end + 1 :] + stream.read())
    except (UnicodeDecodeError, RecursionError):
        return None
    return rows if complete else None


def skip_space(text: str, start: int) -> int:
    """Return the position of the first character from `start` on that is not white space of JSON."""
    return WHITESPACE.match(text, start).end()  # type: ignore[union-attr]  # it matches nothing too


def assign_truth_ids(results: Sequence[Any], truth: Truth) -> Sequence[Any]:
    """Return the results with the truth's image_id in each row that has a `file_name`.

    `predict.py` numbers images in the order of their names, so its ids differ from the truth's. Such ids are
    replaced; others must equal the truth's.

    Raises:
        UserError: the truth lacks a name, or ids and names contradict each other.
    """
    named = [has_name(result) for result in results]
    if not any(named):
        return results
    images = ImageNames(truth)
    of_name: dict[str, int] = {}
    ids: dict[str, Any] = {}
    for row, result in enumerate(results):
        if not named[row]:
            continue
        name = result["file_name"]
        if not isinstance(name, str):
            raise UserError(
                f"file_name of result {row} must be text, got {as_json(name)}. "
                "Correct it, or remove it if image_id is the truth's."
            )
        if name not in of_name:
            of_name[name] = images.find(name, row)
        number = result.get("image_id")
        if ids.setdefault(name, number) != number:
            raise UserError(
                f"image_id of result {row} must be {as_json(ids[name])}, as in other rows of "
                f"file_name {as_json(name)}, got {as_json(number)}. Give each file one image_id."
            )
    if check_numbering(of_name, ids) and not all(named):
        raise UserError(
            f"result {named.index(False)} must have a file_name, as the image_ids of other rows are not "
            "the truth's, got none. Name the file in every row."
        )
    return [
        {**result, "image_id": of_name[result["file_name"]]} if has else result
        for has, result in zip(named, results, strict=True)
    ]


def has_name(result: Any) -> bool:
    """Return whether a row has a file_name other than null."""
    return isinstance(result, dict) and result.get("file_name") is not None


def check_numbering(of_name: dict[str, int], ids: dict[str, Any]) -> bool:
    """Return whether the results number images by the order of their names, unlike the truth; note it then.

    Args:
        of_name: the truth's image id of each name.
        ids: the results' own image id of each name; None where rows have none.

    Raises:
        UserError: two names for one image, one id for two names, or ids that contradict the names.
    """
    for what, numbers in (
        ("one image of the truth, id", of_name),
        ("image_id", {name: number for name, number in ids.items() if number is not None}),
    ):
        first: dict[Any, str] = {}
        for name, number in numbers.items():
            before = first.setdefault(as_json(number), name)
            if before != name:
                raise UserError(
                    f"file_name must be one for each image, got {before!r} and {name!r} for "
                    f"{what} {as_json(number)}. Correct the names."
                )
    other = [name for name, number in ids.items() if number is not None and number != of_name[name]]
    if not other:
        return False
    numbered = [ids[name] for name in sorted(ids, key=normal_name)]
    here, there = as_json(ids[other[0]]), of_name[other[0]]
    first_other = f"{other[0]!r} with image_id {here} in the predictions, {there} in the truth"
    if not all(map(is_id, numbered)) or numbered != sorted(numbered):
        raise UserError(
            f"image_id must be the truth's id of file_name, got {first_other}. "
            "Remove image_id from all rows to match by name, or remove file_name."
        )
    note(f"predictions number their images otherwise than the truth ({first_other}), so file_name decides")
    return True


class ImageNames:
    """Index of the truth's images by file name.

    A name matches in full, by its last folders alone, and without its suffix, as an image may have been
    converted.
    """

    def __init__(self, truth: Truth) -> None:
        self.exact: dict[str, int] = {}
        self.by_last: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        for image in truth["images"]:
            *folders, last = split_path(image["file_name"])
            self.exact["/".join([*folders, last])] = image["id"]
            for name in {last, splitext(last)[0]}:
                self.by_last[name].append((tuple(folders), image["id"]))

    def find(self, name: str, row: int) -> int:
        """Return the id of the image of that name.

        Raises:
            UserError: no image has the name, or several have it.
        """
        *folders, last = split_path(name)
        exact = self.exact.get("/".join([*folders, last]))
        if exact is not None:
            return exact
        for key in (last, splitext(last)[0]):
            # either name may have fewer folders than the other
            found = [
                number
                for others, number in self.by_last.get(key, [])
                if all(one == other for one, other in zip(reversed(folders), reversed(others), strict=False))
            ]
            if len(found) > 1:
                raise UserError(
                    f"file_name of result {row} must name one image, got {name!r}, which may be image "
                    f"{found[0]} or {found[1]}. Write file_name as in the truth."
                )
            if found:
                return found[0]
        raise UserError(
            f"file_name of result {row} must be an image of the truth, got {name!r}. "
            "Check that the file belongs to this split."
        )


def split_path(name: str) -> tuple[str, ...]:
    """Return the folders and the last part of a file name, without `.` and `..`, letters composed."""
    return PurePosixPath(normpath(normal_name(name))).parts or (".",)
