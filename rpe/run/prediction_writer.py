"""Write a prediction image by image, so that finished images are never lost, and its tables."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from rpe.data.module import distinct_names, normal_name
from rpe.overlay import encode_png
from rpe.run_files import Node, open_whole, read_yaml, write_whole
from rpe.segment import Instances
from rpe.structures import UserError
from rpe.task.classes import BACKGROUND_NAME

MAX_LABELS = 2**16 - 1
"""Labels that a 16-bit label map can hold."""

CSV_COLUMNS = ("image", "label", "class", "score", "area", "left", "top", "width", "height")

OUTPUT_FOLDERS = ("labels", "boundaries", "overlays", "objects")
"""Folders that hold a file for each image."""

MAX_NAME_BYTES = 255 - len(".json.partial")
"""Bytes of an image's name that leave room for the suffixes in a file name."""


class TiledImageError(Exception):
    """An image was cut into tiles, so there are no ranked masks of the whole image."""


class PredictionWriter:
    """The folder of a prediction.

    For each image it holds `labels/<name>.png` (16 bits; of boundary runs `boundaries/<name>.png`, 8 bits),
    `overlays/<name>.png` and `objects/<name>.json`. The last is written last: an image that has it is done.
    For all images together it holds `results.json` and `proposals.json` (COCO), `objects.csv` and
    `predictions.yaml`.

    Args:
        folder: the folder, which exists.
        made: the settings that must match before the folder is continued.
        about: further content of predictions.yaml.

    Raises:
        UserError: the folder holds a prediction with other settings.
    """

    def __init__(self, folder: Path, made: Node, about: Node) -> None:
        self.folder, self.made, self.about, self.objects = folder, made, about, 0
        file = folder / "predictions.yaml"
        self.images = {record["name"]: record["source"] for record in self.read_records()}
        if self.images and file.is_file():
            before = read_yaml(file).get("made")
            if before != made:
                differing = [
                    key for key in made if not isinstance(before, dict) or before.get(key) != made[key]
                ]
                raise UserError(
                    f"output must be another folder, got {folder}: "
                    f"its prediction has other {' and '.join(differing)}. Name a new one."
                )
        for part in ("objects", "overlays"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.write_about()

    def read_records(self) -> Iterator[Node]:
        """Yield the record of each finished image, sorted by name."""
        for file in sorted((self.folder / "objects").glob("*.json")):
            yield json.loads(file.read_text())

    def name_images(self, files: list[Path]) -> dict[str, Path]:
        """Return the files by a unique name: the stem, cut where it is too long.

        Where several files share a stem, the suffix is added, then a number. A finished image keeps its name.
        """
        known = {source: name for name, source in self.images.items()}
        stems = Counter(file.stem.lower() for file in files)
        names: dict[str, Path] = {}
        # some file systems ignore case
        taken = {name.lower() for name in self.images}
        for file in files:
            name = known.get(source_path(file))
            if name is None or name in names:
                stem = (
                    file.stem if stems[file.stem.lower()] == 1 else f"{file.stem}_{file.suffix.lstrip('.')}"
                )
                endings = ("", *(f"_{number}" for number in range(2, len(files) + len(taken) + 3)))
                name = next(
                    one
                    for one in (shorten_name(stem, ending) for ending in endings)
                    if one.lower() not in taken
                )
                taken.add(name.lower())
            names[name] = file
        return names

    def is_done(self, name: str, file: Path) -> bool:
        """Return whether this very file has been predicted."""
        record = self.folder / "objects" / f"{name}.json"
        return (
            record.is_file()
            and file.is_file()
            and json.loads(record.read_text())["stamp"] == file_stamp(file)
        )

    def write(
        self,
        name: str,
        file: Path,
        maps: Node,
        rows: list[Node],
        size: tuple[int, int],
        proposals: list[Node] | None = None,
    ) -> None:
        """Write the output of one image.

        Args:
            name: the image's name.
            file: the image.
            maps: pixels by folder.
            rows: the image's objects, from `list_objects`.
            size: (height, width).
            proposals: the rows of all its ranked masks; None for an image that was cut into tiles.
        """
        for part, pixels in maps.items():
            (self.folder / part).mkdir(exist_ok=True)
            write_whole(self.folder / part / f"{name}.png", encode_png(pixels))
        record = {
            "name": name,
            "source": source_path(file),
            "stamp": file_stamp(file),
            "size": list(size),
            "objects": rows,
            "proposals": proposals,
        }
        write_whole(self.folder / "objects" / f"{name}.json", json.dumps(record))
        self.images[name] = record["source"]

    def write_about(self) -> None:
        """Write `predictions.yaml`: the run, its settings, and each image's source and image_id."""
        images = dict(sorted(self.images.items()))
        names = {number: name for name, number in number_images(file_names(self.images)).items()}
        content = {**self.about, "made": self.made, "images": images, "image_ids": names}
        write_whole(
            self.folder / "predictions.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        )

    def write_tables(self) -> None:
        """Write `results.json`, `objects.csv` and `predictions.yaml` of all finished images.

        Also `proposals.json`, all ranked masks, unless an image was cut into tiles: it has the average recall
        of `evaluate.py run=`. One image at a time is in memory.
        """
        self.write_about()
        if not self.made["objects"]:
            return
        files = file_names(self.images)
        ids, self.objects = number_images(files), 0
        self.write_proposals(ids, files)
        with (
            open_whole(self.folder / "results.json", "w") as rows,
            open_whole(self.folder / "objects.csv", "w") as lines,
        ):
            writer, before = csv.writer(lines), "["
            writer.writerow(CSV_COLUMNS)
            for record in self.read_records():
                self.objects += len(record["objects"])
                for one in record["objects"]:
                    kept = {key: one[key] for key in ("category_id", "segmentation", "score", "area", "bbox")}
                    rows.write(
                        before
                        + json.dumps(
                            {"image_id": ids[record["name"]], "file_name": files[record["name"]], **kept}
                        )
                    )
                    before = ",\n"
                    writer.writerow(
                        [
                            record["name"],
                            one["label"],
                            one["class"],
                            f"{one['score']:.6g}",
                            one["area"],
                            *one["bbox"],
                        ]
                    )
            rows.write("]" if before != "[" else "[]")

    def write_proposals(self, ids: dict[str, int], files: dict[str, str]) -> None:
        """Write `proposals.json` of all finished images, or remove it where an image has none."""
        file, before = self.folder / "proposals.json", "["
        try:
            with open_whole(file, "w") as rows:
                for record in self.read_records():
                    if record.get("proposals") is None:
                        raise TiledImageError(record["name"])
                    named = {"image_id": ids[record["name"]], "file_name": files[record["name"]]}
                    for one in record["proposals"]:
                        rows.write(before + json.dumps(one | named))
                        before = ",\n"
                rows.write("]" if before != "[" else "[]")
        except TiledImageError:
            file.unlink(missing_ok=True)


def file_names(sources: dict[str, str]) -> dict[str, str]:
    """Return each image's file name in results.json, by which evaluation finds it again.

    It is the path below the folder that holds all images.
    """
    root = os.path.commonpath([Path(source).parent for source in sources.values()]) if sources else ""
    return {name: Path(source).relative_to(root).as_posix() for name, source in sources.items()}


def number_images(files: dict[str, str]) -> dict[str, int]:
    """Return the images' numbers from 1 on, in the order of their file names.

    Evaluation thus sees that they are not the ids of a data set.
    """
    return {
        name: number
        for number, name in enumerate(sorted(files, key=lambda name: normal_name(files[name])), start=1)
    }


def list_objects(found: Instances) -> list[Node]:
    """Return the objects of an image as rows.

    Raises:
        UserError: the image has more objects than a 16-bit label map can hold.
    """
    count = len(found)
    if count > MAX_LABELS:
        raise UserError(
            f"objects of an image must be <= {MAX_LABELS:,} for a 16-bit label map, got {count:,}. "
            "Cut the image, or raise proposal.score_threshold."
        )
    names = distinct_names(found.categories, BACKGROUND_NAME)
    return [
        {"label": label, "class": names.get(row["category_id"], ""), **row}
        for label, row in enumerate(found.to_coco(0), start=1)
    ]


def shorten_name(stem: str, ending: str) -> str:
    """Return stem and ending in at most `MAX_NAME_BYTES` bytes of UTF-8.

    Undecodable bytes are replaced by "?".
    """
    printable = os.fsencode(stem).decode("utf8", "replace").encode()
    return printable[: MAX_NAME_BYTES - len(ending)].decode("utf8", "ignore") + ending


def source_path(file: Path) -> str:
    """Return a file's absolute path. Undecodable bytes are escaped, so that two files stay distinct."""
    return os.fsencode(file.absolute()).decode("utf8", "backslashreplace")


def file_stamp(file: Path) -> list[int]:
    """Return a file's size and modification time, which change with its content."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]
