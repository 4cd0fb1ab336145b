"""What a prediction leaves of each image, and the tables of all: written image by image, so that nothing finished is lost."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from rpe.data.module import distinct_names, normal_name
from rpe.run_files import read_yaml, write_whole
from rpe.segment import Instances
from rpe.structures import UserError
from rpe.task.classes import BACKGROUND_NAME

MOST_LABELS = 2**16 - 1
"""Of a 16-bit label map."""

COLUMNS = ("image", "label", "class", "score", "area", "left", "top", "width", "height")

PARTS = ("labels", "boundaries", "overlays", "objects")
"""Folders of a file an image."""

LONGEST_NAME = 255 - len(".json.partial")
"""Bytes of an image's name, so that its files have names which file systems take."""

Node = dict[str, Any]


class PredictionWriter:
    """The folder of a prediction.

    `labels/<name>.png` (16 bits; of boundary runs `boundaries/<name>.png`, 8 bits), `overlays/<name>.png` and, last, `objects/<name>.json`, whose presence says
    that the image is done; of all images together `results.json` (COCO), `objects.csv` and `predictions.yaml`.

    Args:
        folder: is there.
        made: how the answers are made: what must not change when the work goes on.
        about: what else predictions.yaml tells.

    Raises:
        UserError: the folder holds answers that were made otherwise.
    """

    def __init__(self, folder: Path, made: Node, about: Node) -> None:
        self.folder, self.made, self.about, self.objects = folder, made, about, 0
        file = folder / "predictions.yaml"
        self.images = {piece["name"]: piece["source"] for piece in self.pieces()}
        if self.images and file.is_file():
            before = read_yaml(file).get("made")
            if before != made:
                differing = [
                    key for key in made if not isinstance(before, dict) or before.get(key) != made[key]
                ]
                raise UserError(
                    f"{folder} holds a prediction with other {' and '.join(differing)}: name another output folder"
                )
        for part in ("objects", "overlays"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.write_about()

    def pieces(self) -> Iterator[Node]:
        """All images that are done, by name."""
        for file in sorted((self.folder / "objects").glob("*.json")):
            yield json.loads(file.read_text())

    def name_all(self, files: list[Path]) -> dict[str, Path]:
        """A name for each file: its stem, cut where it is too long; where several share that, with the suffix, then a number. What has a name already
        keeps it."""
        known = {source: name for name, source in self.images.items()}
        stems = Counter(file.stem.lower() for file in files)
        names: dict[str, Path] = {}
        # names must differ by more than their case, which some file systems do not keep
        taken = {name.lower() for name in self.images}
        for file in files:
            name = known.get(source_of(file))
            if name is None or name in names:
                stem = (
                    file.stem if stems[file.stem.lower()] == 1 else f"{file.stem}_{file.suffix.lstrip('.')}"
                )
                endings = ("", *(f"_{number}" for number in range(2, len(files) + len(taken) + 3)))
                name = next(
                    one for one in (shortened(stem, ending) for ending in endings) if one.lower() not in taken
                )
                taken.add(name.lower())
            names[name] = file
        return names

    def is_done(self, name: str, file: Path) -> bool:
        """Whether the answer to this very file is there."""
        piece = self.folder / "objects" / f"{name}.json"
        return piece.is_file() and file.is_file() and json.loads(piece.read_text())["stamp"] == stamp_of(file)

    def write(self, name: str, file: Path, maps: Node, rows: list[Node], size: tuple[int, int]) -> None:
        """Keep one image's answer.

        Args:
            name: of the image.
            file: where it lies.
            maps: pixels by folder.
            rows: its objects, by `rows_of`.
            size: (height, width).
        """
        for part, pixels in maps.items():
            (self.folder / part).mkdir(exist_ok=True)
            write_whole(self.folder / part / f"{name}.png", png_of(pixels))
        piece = {
            "name": name,
            "source": source_of(file),
            "stamp": stamp_of(file),
            "size": list(size),
            "objects": rows,
        }
        write_whole(self.folder / "objects" / f"{name}.json", json.dumps(piece))
        self.images[name] = piece["source"]

    def write_about(self) -> None:
        """Write `predictions.yaml`: run, settings, where each image came from, and which image_id it has in results.json."""
        images = dict(sorted(self.images.items()))
        names = {number: name for name, number in numbered(file_names(self.images)).items()}
        content = {**self.about, "made": self.made, "images": images, "image_ids": names}
        write_whole(
            self.folder / "predictions.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        )

    def write_tables(self) -> None:
        """`results.json`, `objects.csv` and `predictions.yaml` of all images that are done; an image at a time is in memory."""
        self.write_about()
        if not self.made["objects"]:
            return
        files = file_names(self.images)
        ids, self.objects = numbered(files), 0
        results, table = (self.folder / f"{name}.writing" for name in ("results.json", "objects.csv"))
        with results.open("w") as rows, table.open("w", newline="") as lines:
            writer, before = csv.writer(lines), "["
            writer.writerow(COLUMNS)
            for piece in self.pieces():
                self.objects += len(piece["objects"])
                for one in piece["objects"]:
                    kept = {key: one[key] for key in ("category_id", "segmentation", "score", "area", "bbox")}
                    rows.write(
                        before
                        + json.dumps(
                            {"image_id": ids[piece["name"]], "file_name": files[piece["name"]], **kept}
                        )
                    )
                    before = ",\n"
                    writer.writerow(
                        [
                            piece["name"],
                            one["label"],
                            one["class"],
                            f"{one['score']:.6g}",
                            one["area"],
                            *one["bbox"],
                        ]
                    )
            rows.write("]" if before != "[" else "[]")
        for file in (results, table):
            file.replace(file.with_suffix(""))


def file_names(sources: dict[str, str]) -> dict[str, str]:
    """Return what each image is called in results.json: its path below the folder that holds all of them, by which evaluation knows it again."""
    root = os.path.commonpath([Path(source).parent for source in sources.values()]) if sources else ""
    return {name: Path(source).relative_to(root).as_posix() for name, source in sources.items()}


def numbered(files: dict[str, str]) -> dict[str, int]:
    """Return the images' numbers, from 1, in the order of their file names: so evaluation sees that they are no data set's ids."""
    return {
        name: number
        for number, name in enumerate(sorted(files, key=lambda name: normal_name(files[name])), start=1)
    }


def rows_of(found: Instances) -> list[Node]:
    """Return the objects of an image as rows.

    Raises:
        UserError: more objects than a label map of 16 bits has numbers.
    """
    count = len(found)
    if count > MOST_LABELS:
        raise UserError(
            f"{count:,} objects are more than the {MOST_LABELS:,} of a 16-bit label map: cut the image, or ask for surer ones"
        )
    names = distinct_names(found.categories, BACKGROUND_NAME)
    return [
        {"label": label, "class": names.get(row["category_id"], ""), **row}
        for label, row in enumerate(found.to_coco(0), start=1)
    ]


def shortened(stem: str, ending: str) -> str:
    """The two together as at most `LONGEST_NAME` bytes of UTF-8; what of a file's name is none becomes a question mark."""
    printable = os.fsencode(stem).decode("utf8", "replace").encode()
    return printable[: LONGEST_NAME - len(ending)].decode("utf8", "ignore") + ending


def source_of(file: Path) -> str:
    """Where a file lies; bytes that are no UTF-8 as escapes, so that two files stay two."""
    return os.fsencode(file.absolute()).decode("utf8", "backslashreplace")


def stamp_of(file: Path) -> list[int]:
    """What changes when a file does: its length and time."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def png_of(pixels: np.ndarray) -> bytes:
    """Bytes or 16-bit numbers as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=3)
    return stream.getvalue()
