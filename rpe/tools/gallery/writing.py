"""`python -m rpe.tools.gallery run=<folder>`: one page of a run or of a folder of predictions, whose objects light up under the mouse."""

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rpe.errors import UserError
from rpe.run_files import Node, read_yaml, run_folder, write_whole
from rpe.tools.command import read_arguments
from rpe.tools.gallery.outline import ImageRow, Shown, outlines
from rpe.tools.page import REFUSALS, embedded, embedded_file, render

USAGE = """
One self-contained page of a run's validation images, or of the images of a prediction: point at an object for its area and score.

  python -m rpe.tools.gallery run=outputs/digits/<time>                  its network on the first validation images, with truth and loops
  python -m rpe.tools.gallery run=<folder that predict.py wrote>         images, overlays and objects as predicted
  python -m rpe.tools.gallery run=... images=20 output=gallery.html      how many; where to (default: gallery.html in the folder)
  python -m rpe.tools.gallery run=... order=<evaluation>/images.csv      in the order of this table, the worst image first

A run that evaluate.py has scored on its validation split is shown in the order of <run>/evaluation/<data>-val/images.csv.
"""

WIDEST = 900
"""Pixels across of a picture in the page; its label map is shrunk with it."""

Image.MAX_IMAGE_PIXELS = None  # predictions are made of images of any size


def main(arguments: list[str]) -> int:
    """Write the page; returns 0.

    Raises:
        UserError: neither a run nor a prediction, or a slip in an argument.
    """
    options = read_arguments(arguments, {"run": None, "output": None, "images": 8, "order": None}, USAGE)
    if options["run"] is None:
        raise UserError(
            "run is missing: name a folder that train.py or predict.py wrote, run=outputs/digits/<time>"
        )
    count = options["images"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UserError(f"images {count} is no whole number from 1 on")
    folder = Path(str(options["run"]))
    output = Path(str(options["output"])) if options["output"] is not None else folder / "gallery.html"
    order = None if options["order"] is None else Path(str(options["order"]))
    shown, summary = (of_prediction if (folder / "predictions.yaml").is_file() else of_run)(
        folder, count, order
    )
    if not output.parent.is_dir():
        raise UserError(f"output {output}: its folder does not exist")
    write_whole(
        output,
        render("gallery.html", title=f"Gallery of {folder.resolve().name}", summary=summary, images=shown),
    )
    print(f"{len(shown)} images: {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return 0


def of_run(folder: Path, count: int, order: Path | None) -> tuple[list[Shown], str]:
    """Show the run's network on images of a split, or the pictures that a run without objects has drawn.

    Args:
        order: images.csv of an evaluation of this run; None is the validation's, or the data's order without.
    """
    name = read_yaml(run_folder(str(folder)) / "config.yaml").get("data", {}).get("name")
    validation = folder / "evaluation" / f"{name}-val" / "images.csv"
    if order is None and validation.is_file():
        order = validation
    from rpe.tools.gallery.examples import (  # brings torch, which a prediction's page does not need
        examples,
        pictures_of_run,
    )

    rows, split = ([], "val") if order is None else (read_order(order)[:count], evaluated_split(order))
    found = examples(str(folder), count, split, rows)
    if found is not None:
        which = f"worst {split} images by {order}" if rows else "first validation images"
        return (
            found,
            f"The {which}, with the best weights. X_0 is the embedding, X_1, X_2, .. what each loop makes of it.",
        )
    drawn = [
        (file.stem, picture)
        for file in pictures_of_run(folder)[:count]
        if (picture := embedded_file(file, 2 * WIDEST)) is not None
    ]
    if not drawn:
        raise UserError(f"{folder} finds no objects and holds no pictures: nothing can be shown of it")
    return [
        Shown(name, (1, 1), [("", picture)]) for name, picture in drawn
    ], "The pictures that the run has drawn."


def read_order(file: Path) -> list[ImageRow]:
    """Read the table of an evaluation.

    Raises:
        UserError: there is none, or it is not as evaluate.py wrote it.
    """
    if not file.is_file():
        raise UserError(f"order must be images.csv of an evaluation, got {file}. Run evaluate.py first.")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        counts = ("objects", "missed", "extra", "split", "merged")
        numbers = [{name: int(row[name]) for name in ("image_id", *counts)} for row in rows]
        return [
            ImageRow(one.pop("image_id"), row["file_name"], one)
            for one, row in zip(numbers, rows, strict=True)
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"order must be as evaluate.py wrote it, got {file} ({type(error).__name__}: {error})."
        ) from error


def evaluated_split(table: Path) -> str:
    """Return the split that the evaluation beside its table tells.

    Raises:
        UserError: its metrics.json is missing or broken.
    """
    file = table.with_name("metrics.json")
    try:
        return str(json.loads(file.read_text())["run"]["split"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"order must lie beside the evaluation's metrics.json, got {table} ({type(error).__name__})."
        ) from error


def worst_first(sources: dict[str, str], rows: list[ImageRow]) -> dict[str, str]:
    """Sort the images of a prediction as the table does, by file name without folder and suffix; others come last."""
    place: dict[str, int] = {}
    for number, row in enumerate(rows):
        place.setdefault(stem_of(row.file_name), number)
    return dict(sorted(sources.items(), key=lambda item: place.get(stem_of(item[1]), len(rows))))


def stem_of(name: str) -> str:
    """Return a file's name without folder and suffix, its letters composed."""
    return unicodedata.normalize("NFC", Path(name).stem)


def of_prediction(folder: Path, count: int, order: Path | None) -> tuple[list[Shown], str]:
    """Show images of a prediction.

    Args:
        order: images.csv of an evaluation of its results.json; None is the order of the names.

    Raises:
        UserError: predictions.yaml names no images, or the table is not one.
    """
    sources = read_yaml(folder / "predictions.yaml").get("images")
    if not isinstance(sources, dict) or not sources:
        raise UserError(f"{folder / 'predictions.yaml'} names no images: predict.py has not finished one yet")
    objects = read_objects(folder / "objects.csv")
    rows = [] if order is None else read_order(order)
    names = worst_first({str(name): str(source) for name, source in sources.items()}, rows)
    chosen = list(names.items())[:count]
    shown = [predicted(folder, name, Path(source), objects.get(name, {})) for name, source in chosen]
    words = {stem_of(row.file_name): row.words() for row in rows}
    for one in shown:
        one.note = "; ".join(filter(None, [one.note, words.get(stem_of(names[one.name]), "")]))
    by = f", the worst first by {order}" if order else ""
    return shown, f"{len(shown)} of {len(sources)} images as predicted{by}."


def read_objects(file: Path) -> dict[str, dict[int, Node]]:
    """objects.csv by image and label; empty where there is none yet."""
    found: dict[str, dict[int, Node]] = {}
    if file.is_file():
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream):
                try:
                    about: dict[str, Any] = {
                        "score": float(row["score"]),
                        "area": int(float(row["area"])),
                        "class": row.get("class") or "",
                    }
                    found.setdefault(row["image"], {})[int(row["label"])] = about
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{file} is not as predict.py wrote it ({type(error).__name__}: {error})"
                    ) from error
    return found


def predicted(folder: Path, name: str, source: Path, objects: dict[int, Node]) -> Shown:
    """One image of a prediction; what is missing is said, and the rest is shown."""
    files = {
        "image": source,
        "overlay": folder / "overlays" / f"{name}.png",
        "boundaries": folder / "boundaries" / f"{name}.png",
    }
    pictures = {
        title: embedded_file(file, WIDEST)
        for title, file in files.items()
        if title != "boundaries" or file.is_file()
    }
    panels = [(title, picture) for title, picture in pictures.items() if picture is not None]
    missing = [f"{files[title]} cannot be read" for title, picture in pictures.items() if picture is None]
    labels = read_labels(folder / "labels" / f"{name}.png")
    if labels is None:
        return Shown(name, (1, 1), panels, note="; ".join(missing))
    scores = {label: about["score"] for label, about in objects.items()}
    found = outlines(labels, scores, {label: about["area"] for label, about in objects.items()})
    if not panels:
        panels = [("labels", blank(labels.shape[0], labels.shape[1]))]
    for one in found:
        if objects.get(one.label, {}).get("class"):
            one.words += f", {objects[one.label]['class']}"
    note = f"{len(objects) or len(found)} objects" + (
        f", the {len(found)} largest outlined" if len(found) < len(objects) else ""
    )
    return Shown(name, (labels.shape[0], labels.shape[1]), panels, found, "; ".join([note, *missing]))


def read_labels(file: Path) -> np.ndarray | None:
    """A label map, shrunk as its image is; None where there is none that can be read."""
    try:
        with Image.open(file) as picture:
            labels = np.asarray(picture).astype(np.int64)
    except REFUSALS:
        return None
    step = max(1.0, labels.shape[1] / WIDEST)
    rows, columns = (
        ((np.arange(round(length / step) or 1) + 0.5) * step).astype(int).clip(max=length - 1)
        for length in labels.shape[:2]
    )
    return labels[rows][:, columns]


def blank(height: int, width: int) -> str:
    """Grey, to draw outlines on where there is no picture."""
    stream = io.BytesIO()
    Image.new("L", (width, height), 128).save(stream, "PNG")
    return embedded(stream.getvalue())
