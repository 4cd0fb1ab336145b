"""Anybody's predictions for a split, and the part of its truth that they are for."""

import gc
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rpe.data.module import Truth, as_names
from rpe.structures import UserError
from rpe.task.base import Scoring

Row = dict[str, Any]


def only_images(truth: Truth, image_ids: Collection[int]) -> Truth:
    """The truth of some images."""
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in image_ids],
        "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in image_ids],
    }


def of_names(truth: Truth, names: list[str | int] | None) -> Truth:
    """The truth of the named images, without folder and suffix; all of it for None.

    Raises:
        UserError: what `as_names` refuses.
    """
    if names is None:
        return truth
    ids = {Path(image["file_name"]).stem: image["id"] for image in truth["images"]}
    return only_images(truth, {ids[name] for name in as_names(names, list(ids))})


def only_rows(results: list[Any], truth: Truth) -> list[Any]:
    """The results for the images of a truth; what is no row stays, to be refused."""
    chosen = {image["id"] for image in truth["images"]}
    return [row for row in results if not isinstance(row, dict) or row.get("image_id") in chosen]


def refuse_thresholds(scoring: Scoring) -> None:
    """Raises: UserError: an option for boundary maps beside masks."""
    if scoring.thresholds is not None:
        raise UserError(f"thresholds {scoring.thresholds} counts boundary maps: leave it out, or score maps by task=boundary")


def read_results(file: Path) -> list[Row]:
    """A COCO results file.

    Raises:
        UserError: no such file, or not a JSON list.
    """
    if not file.is_file():
        raise UserError(f"predictions {file} {'is no file' if file.exists() else 'does not exist'}: name a JSON list of COCO results")
    try:
        rows = loaded(file.read_bytes())
    except ValueError as error:
        raise UserError(f"predictions {file} is not a JSON list of COCO results: {error}") from error
    if not isinstance(rows, list):
        raise UserError(f"predictions {file} is not a JSON list of COCO results, but holds one {type(rows).__name__}")
    return rows


def loaded(text: bytes) -> Any:
    """JSON, without a walk of the garbage collector through all of its objects each time that their number has grown by a quarter: half the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    finally:
        if collecting:
            gc.enable()
