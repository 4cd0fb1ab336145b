"""Anybody's predictions for a split, and the part of its truth that they are for."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from posixpath import normpath, splitext
from typing import Any

from rpe.data.annotation import described, read_json
from rpe.data.module import Truth, as_names, normal_name
from rpe.errors import note
from rpe.metric.results import is_id, shown
from rpe.structures import UserError
from rpe.task.base import Scoring

Row = dict[str, Any]


def only_images(truth: Truth, image_ids: Collection[int]) -> Truth:
    """The truth of some images."""
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in image_ids],
        "annotations": [
            annotation for annotation in truth["annotations"] if annotation["image_id"] in image_ids
        ],
    }


def of_names(truth: Truth, names: list[str | int] | None) -> Truth:
    """Return the truth of all images that bear one of the names, without folder and suffix; all of it for None.

    Raises:
        UserError: what `as_names` refuses.
    """
    if names is None:
        return truth
    stems = {image["id"]: Path(image["file_name"]).stem for image in truth["images"]}
    chosen = set(as_names(names, list(dict.fromkeys(stems.values()))))
    return only_images(truth, {image_id for image_id, stem in stems.items() if stem in chosen})


def only_rows(results: list[Any], truth: Truth) -> list[Any]:
    """The results for the images of a truth; what is no row stays, to be refused."""
    chosen = {image["id"] for image in truth["images"]}
    return [
        row
        for row in results
        if not isinstance(row, dict) or not is_id(row.get("image_id")) or row["image_id"] in chosen
    ]


def refuse_thresholds(scoring: Scoring) -> None:
    """Raises: UserError: an option for boundary maps beside masks."""
    if scoring.thresholds is not None:
        raise UserError(
            f"thresholds {scoring.thresholds} counts boundary maps: leave it out, or score maps by task=boundary"
        )


def read_results(file: Path) -> list[Any]:
    """A COCO results file.

    Raises:
        UserError: no such file, or not a JSON list.
    """
    if not file.is_file():
        raise UserError(
            f"predictions {file} {'is no file' if file.exists() else 'does not exist'}: name a JSON list of COCO results"
        )
    rows = read_json(file, f"predictions {file}")
    if isinstance(rows, dict) and "annotations" in rows:
        raise UserError(
            f"predictions {file} is an annotation file ({described(rows)}): name a JSON list of COCO results, rows with a score each"
        )
    if not isinstance(rows, list):
        raise UserError(f"predictions {file} is not a JSON list of COCO results, but {described(rows)}")
    return rows


def with_truth_ids(results: list[Any], truth: Truth) -> list[Any]:
    """Return the rows that carry a `file_name` with the image_id that the truth has for that file; other rows stay as they are.

    A prediction numbers its images by itself, so the name decides where the ids count the names in their order, as `predict.py` does.

    Raises:
        UserError: a name that the truth does not hold, or ids and names that contradict each other.
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
                f"result {row} has the file_name {shown(name)}: text is wanted, or no file_name, where image_id is the truth's"
            )
        if name not in of_name:
            of_name[name] = images.find(name, row)
        number = result.get("image_id")
        if ids.setdefault(name, number) != number:
            raise UserError(
                f"result {row} has image_id {shown(number)} and file_name {shown(name)}, which other rows give as image {shown(ids[name])}"
            )
    if check_numbering(of_name, ids) and not all(named):
        raise UserError(
            f"result {named.index(False)} has no file_name, but others have, and image_ids that are not the truth's: name the file in each"
        )
    return [
        {**result, "image_id": of_name[result["file_name"]]} if has else result
        for has, result in zip(named, results, strict=True)
    ]


def has_name(result: Any) -> bool:
    """Whether a row carries a file_name; null is none."""
    return isinstance(result, dict) and result.get("file_name") is not None


def check_numbering(of_name: dict[str, int], ids: dict[str, Any]) -> bool:
    """Return whether the predictions number their images otherwise than the truth, in the names' order, which one line tells.

    Args:
        of_name: the truth's image id of each name.
        ids: the results' own image id of each name; None where rows have none.

    Raises:
        UserError: two names for one image, an id for two names, or ids that contradict the names.
    """
    for what, numbers in (
        ("an image of the truth", of_name),
        ("image_id", {name: number for name, number in ids.items() if number is not None}),
    ):
        first: dict[Any, str] = {}
        for name, number in numbers.items():
            before = first.setdefault(shown(number), name)
            if before != name:
                raise UserError(
                    f"predictions name the files {before!r} and {name!r} for one image ({what}, {shown(number)}): each needs its own"
                )
    other = [name for name, number in ids.items() if number is not None and number != of_name[name]]
    if not other:
        return False
    numbered = [ids[name] for name in sorted(ids, key=normal_name)]
    where = f"{other[0]!r} has image_id {shown(ids[other[0]])} in the predictions and {of_name[other[0]]} in the truth"
    if not all(map(is_id, numbered)) or numbered != sorted(numbered):
        raise UserError(
            f"file_name and image_id contradict each other: {where}; take image_id out of all rows to match by name, or file_name"
        )
    note(f"predictions count their images by themselves ({where}): matched by file_name")
    return True


class ImageNames:
    """The truth's images by name: as it is, by its last folders, and without the suffix, as an image may have been converted."""

    def __init__(self, truth: Truth) -> None:
        self.exact: dict[str, int] = {}
        self.by_last: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        for image in truth["images"]:
            *folders, last = parts_of(image["file_name"])
            self.exact["/".join([*folders, last])] = image["id"]
            for name in {last, splitext(last)[0]}:
                self.by_last[name].append((tuple(folders), image["id"]))

    def find(self, name: str, row: int) -> int:
        """Return the id of the image of that name.

        Raises:
            UserError: there is none, or there are several.
        """
        *folders, last = parts_of(name)
        exact = self.exact.get("/".join([*folders, last]))
        if exact is not None:
            return exact
        for key in (last, splitext(last)[0]):
            # either may tell fewer folders than the other
            found = [
                number
                for others, number in self.by_last.get(key, [])
                if all(one == other for one, other in zip(reversed(folders), reversed(others), strict=False))
            ]
            if len(found) > 1:
                raise UserError(
                    f"result {row} names file {name!r}, which may be image {found[0]} or {found[1]}: write file_name as the truth has it"
                )
            if found:
                return found[0]
        raise UserError(
            f"result {row} names file {name!r}, which the truth does not hold: is this another split's file?"
        )


def parts_of(name: str) -> tuple[str, ...]:
    """Return a file name's folders and last part, composed letters, without `.` and `..`."""
    return PurePosixPath(normpath(normal_name(name))).parts or (".",)
