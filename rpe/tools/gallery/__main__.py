"""Write one page of a run or a prediction, whose objects light up under the mouse."""

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
from rpe.tools.command import read_arguments, run_tool
from rpe.tools.gallery.outline import GalleryImage, ImageCounts, trace_outlines
from rpe.tools.page import PICTURE_ERRORS, embed_file, embed_picture, render

USAGE = """
Write one self-contained page of a run's validation images, or of the images of a prediction.
Point at an object for its area and score.

  python -m rpe.tools.gallery run=outputs/digits/<time>              validation images, with truth and loops
  python -m rpe.tools.gallery run=<folder that predict.py wrote>     images, overlays and objects as predicted
  python -m rpe.tools.gallery run=... images=20 output=gallery.html  8 images in the folder otherwise
  python -m rpe.tools.gallery run=... order=<evaluation>/images.csv  in the order of this table

A run that evaluate.py has scored is shown in the order of <run>/evaluation/<data>-val/images.csv, the worst
image first.
"""

MAX_WIDTH = 900
"""Width in pixels of a page's pictures; a label map is shrunk with its picture."""

Image.MAX_IMAGE_PIXELS = None  # predictions take images of any size


def main(arguments: list[str]) -> int:
    """Write the page; return 0.

    Raises:
        UserError: the folder holds neither a run nor a prediction, or an argument is wrong.
    """
    options = read_arguments(arguments, {"run": None, "output": None, "images": 8, "order": None}, USAGE)
    if options["run"] is None:
        raise UserError(
            "run must be a folder that train.py or predict.py wrote, got none. Add run=outputs/digits/<time>."
        )
    count = options["images"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UserError(f"images must be an integer >= 1, got {count}.")
    folder = Path(str(options["run"]))
    output = Path(str(options["output"])) if options["output"] is not None else folder / "gallery.html"
    order = None if options["order"] is None else Path(str(options["order"]))
    shown, summary = (show_prediction if (folder / "predictions.yaml").is_file() else show_run)(
        folder, count, order
    )
    if not output.parent.is_dir():
        raise UserError(f"output must be in an existing folder, got {output}. Make its folder first.")
    write_whole(
        output,
        render("gallery.html", title=f"Gallery of {folder.resolve().name}", summary=summary, images=shown),
    )
    print(f"{len(shown)} images: {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return 0


def show_run(folder: Path, count: int, order: Path | None) -> tuple[list[GalleryImage], str]:
    """Show the run's network on images of a split, or the pictures that a run without objects has drawn.

    Args:
        folder: the run folder.
        count: the number of images.
        order: images.csv of an evaluation of this run; None is that of the validation split, else the data's
            order.

    Raises:
        UserError: the run has neither objects nor pictures.
    """
    name = read_yaml(run_folder(str(folder)) / "config.yaml").get("data", {}).get("name")
    validation = folder / "evaluation" / f"{name}-val" / "images.csv"
    if order is None and validation.is_file():
        order = validation
    from rpe.tools.gallery.examples import (  # imports torch, which a prediction's page does not need
        list_pictures,
        show_examples,
    )

    rows, split = ([], "val") if order is None else (read_image_table(order)[:count], evaluated_split(order))
    found = show_examples(str(folder), count, split, rows)
    if found is not None:
        which = f"worst {split} images by {order}" if rows else "first validation images"
        return (
            found,
            f"The {which}, with the best weights. X_0 is the embedding, X_1, X_2, .. follow after each loop.",
        )
    drawn = [
        (file.stem, picture)
        for file in list_pictures(folder)[:count]
        if (picture := embed_file(file, 2 * MAX_WIDTH)) is not None
    ]
    if not drawn:
        raise UserError(
            f"run must find objects or hold pictures, got {folder}, which does neither. Choose another."
        )
    return [
        GalleryImage(name, (1, 1), [("", picture)]) for name, picture in drawn
    ], "The pictures that the run has drawn."


def read_image_table(file: Path) -> list[ImageCounts]:
    """Read the images.csv of an evaluation.

    Raises:
        UserError: the file is missing, or not as evaluate.py wrote it.
    """
    if not file.is_file():
        raise UserError(f"order must be images.csv of an evaluation, got {file}. Run evaluate.py first.")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        counts = ("objects", "missed", "extra", "split", "merged")
        numbers = [{name: int(row[name]) for name in ("image_id", *counts)} for row in rows]
        return [
            ImageCounts(one.pop("image_id"), row["file_name"], one)
            for one, row in zip(numbers, rows, strict=True)
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"order must be as evaluate.py wrote it, got {file} ({type(error).__name__}: {error}). "
            "Evaluate again."
        ) from error


def evaluated_split(table: Path) -> str:
    """Return the split in the metrics.json beside the table.

    Raises:
        UserError: metrics.json is missing or broken.
    """
    file = table.with_name("metrics.json")
    try:
        return str(json.loads(file.read_text())["run"]["split"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"order must lie beside the evaluation's metrics.json, got {table} ({type(error).__name__}). "
            "Evaluate again."
        ) from error


def sort_images(sources: dict[str, str], rows: list[ImageCounts]) -> dict[str, str]:
    """Sort a prediction's images as the table does; others come last.

    They are matched by file name without folder and suffix.
    """
    place: dict[str, int] = {}
    for number, row in enumerate(rows):
        place.setdefault(match_key(row.file_name), number)
    return dict(sorted(sources.items(), key=lambda item: place.get(match_key(item[1]), len(rows))))


def match_key(name: str) -> str:
    """Return a file's name without folder and suffix, in Unicode's NFC form, by which images are matched."""
    return unicodedata.normalize("NFC", Path(name).stem)


def show_prediction(folder: Path, count: int, order: Path | None) -> tuple[list[GalleryImage], str]:
    """Show images of a prediction.

    Args:
        folder: the prediction folder.
        count: the number of images.
        order: images.csv of an evaluation of its results.json; None sorts by name.

    Raises:
        UserError: predictions.yaml lists no images, or the table is broken.
    """
    sources = read_yaml(folder / "predictions.yaml").get("images")
    if not isinstance(sources, dict) or not sources:
        raise UserError(
            f"{folder / 'predictions.yaml'} must list images, got none. "
            "Wait until predict.py has finished one."
        )
    objects = read_objects(folder / "objects.csv")
    rows = [] if order is None else read_image_table(order)
    names = sort_images({str(name): str(source) for name, source in sources.items()}, rows)
    chosen = list(names.items())[:count]
    shown = [
        show_prediction_image(folder, name, Path(source), objects.get(name, {})) for name, source in chosen
    ]
    words = {match_key(row.file_name): row.words() for row in rows}
    for one in shown:
        one.note = "; ".join(filter(None, [one.note, words.get(match_key(names[one.name]), "")]))
    by = f", the worst first by {order}" if order else ""
    return shown, f"{len(shown)} of {len(sources)} images as show_prediction_image{by}."


def read_objects(file: Path) -> dict[str, dict[int, Node]]:
    """Read objects.csv by image and label; empty where it does not exist yet.

    Raises:
        UserError: it is not as predict.py wrote it.
    """
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
                        f"{file} must be as predict.py wrote it, got {type(error).__name__} ({error}). "
                        "Predict again."
                    ) from error
    return found


def show_prediction_image(folder: Path, name: str, source: Path, objects: dict[int, Node]) -> GalleryImage:
    """Show one image of a prediction; missing files are noted."""
    files = {
        "image": source,
        "overlay": folder / "overlays" / f"{name}.png",
        "boundaries": folder / "boundaries" / f"{name}.png",
    }
    pictures = {
        title: embed_file(file, MAX_WIDTH)
        for title, file in files.items()
        if title != "boundaries" or file.is_file()
    }
    panels = [(title, picture) for title, picture in pictures.items() if picture is not None]
    missing = [f"{files[title]} cannot be read" for title, picture in pictures.items() if picture is None]
    labels = read_labels(folder / "labels" / f"{name}.png")
    if labels is None:
        return GalleryImage(name, (1, 1), panels, note="; ".join(missing))
    scores = {label: about["score"] for label, about in objects.items()}
    found = trace_outlines(labels, scores, {label: about["area"] for label, about in objects.items()})
    if not panels:
        panels = [("labels", draw_blank(labels.shape[0], labels.shape[1]))]
    for one in found:
        if objects.get(one.label, {}).get("class"):
            one.words += f", {objects[one.label]['class']}"
    note = f"{len(objects) or len(found)} objects" + (
        f", the {len(found)} largest outlined" if len(found) < len(objects) else ""
    )
    return GalleryImage(name, (labels.shape[0], labels.shape[1]), panels, found, "; ".join([note, *missing]))


def read_labels(file: Path) -> np.ndarray | None:
    """Read a label map, shrunk as its image is; None where it cannot be read."""
    try:
        with Image.open(file) as picture:
            labels = np.asarray(picture).astype(np.int64)
    except PICTURE_ERRORS:
        return None
    step = max(1.0, labels.shape[1] / MAX_WIDTH)
    rows, columns = (
        ((np.arange(round(length / step) or 1) + 0.5) * step).astype(int).clip(max=length - 1)
        for length in labels.shape[:2]
    )
    return labels[rows][:, columns]


def draw_blank(height: int, width: int) -> str:
    """Return a grey picture, under outlines without an image."""
    stream = io.BytesIO()
    Image.new("L", (width, height), 128).save(stream, "PNG")
    return embed_picture(stream.getvalue())


if __name__ == "__main__":
    run_tool(main)
