"""Read the splits as training would, and print the page."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from rpe.data.bsds import BoundarySample, BsdsImages
from rpe.data.coco import CocoImages
from rpe.data.listed import is_image
from rpe.data.module import SPLITS, InstanceData, SplitData
from rpe.data.voc import VocImages
from rpe.run.building import build_data
from rpe.run.composing import compose_config
from rpe.run.folder import SOURCE
from rpe.run.overrides import quote_paths, value_of
from rpe.structures import BACKGROUND, VOID, Truth, UserError, check_count
from rpe.tools.advice import advise_on_config
from rpe.tools.command import read_arguments, run_tool
from rpe.tools.doctor.annotation import (
    Part,
    examine_annotations,
    list_categories,
    report_some,
    summarise_range,
)
from rpe.tools.doctor.image import examine_files, find_duplicates, sample_indices
from rpe.tools.doctor.sheet import draw_contact_sheet

USAGE = """
Read a dataset as training would, and print its content, what to look at, and what would be refused.
The contact sheet shows twelve training images with their masks as the network gets them.

  python -m rpe.tools.doctor data=coco data.root=<folder>                      any data, with their options
  python -m rpe.tools.doctor data=folder data.root=<folder> experiment=nuclei  as that experiment would

samples=100 images of a split are read whole; output=doctor.png is the contact sheet.
The status is 1 where something would be refused.
"""

DEFAULTS: dict[str, Any] = {"samples": 100, "output": "doctor.png"}

CATEGORIES_SHOWN = 8
SCATTERED = 0.5
"""Share of the objects in several components above which masks may be of classes instead of objects."""

REFUSALS_SHOWN = 5


def configure(overrides: list[str]) -> DictConfig:
    """Return the config of the given experiment, else of the one with the data's name, else of coco.

    Raises:
        UserError: neither data nor experiment is given, or an override is unknown.
    """
    data, experiment = value_of(overrides, "data"), value_of(overrides, "experiment")
    if data is None and experiment is None:
        raise UserError(
            "data must be given, got none. "
            "Add data=coco data.root=<folder>, or data=folder for images and masks without JSON."
        )
    if experiment is None:
        own = (Path(SOURCE) / "conf" / "experiment" / f"{data}.yaml").is_file()
        overrides = [f"experiment={data if own else 'coco'}", *overrides]
    return compose_config([quote_paths(override, False) for override in overrides])


def list_files(dataset: Any) -> list[Path]:
    """Return the image files of a split; none for generated data."""
    if isinstance(dataset, CocoImages):
        return [dataset.folder / name.decode() for name in dataset.annotations.names]
    if isinstance(dataset, VocImages):
        return [dataset.files(place)[0] for place in range(len(dataset))]
    return [image for image, _ in dataset.files] if isinstance(dataset, BsdsImages) else []


def examine_samples(dataset: Any, samples: int, truth: Truth | None) -> tuple[Part, list[int], list[str]]:
    """Return how the network gets evenly spaced images, their numbers of groups, and the refused ones.

    Args:
        dataset: the images of a split.
        samples: the number of images.
        truth: of whole images, to count the objects that do not reach the network; None for crops.
    """
    groups: list[int] = []
    void, refused, scattered, people, boundary = [], [], [], [], []
    expected = present_objects = 0
    counts: dict[int, int] = {}
    for entry in truth["annotations"] if truth is not None else []:
        counts[entry["image_id"]] = counts.get(entry["image_id"], 0) + (not entry["iscrowd"])
    for place in sample_indices(len(dataset), samples):
        try:
            sample = dataset[place]
        except UserError as error:
            refused.append(str(error))
            continue
        present = np.unique(sample.labels.numpy())
        void.append(float((sample.labels == VOID).float().mean()))
        groups.append(int((present != VOID).sum()))
        scattered += find_scattered(sample.labels.numpy()) if truth is not None else []
        if isinstance(sample, BoundarySample):
            people.append(len(sample.segments))
            boundary.append(float((sample.labels == 1).float().mean()))
        expected, present_objects = (
            expected + counts.get(sample.image_id, 0),
            present_objects + int((present > BACKGROUND).sum()),
        )
    rows = {
        "groups as the network gets them": summarise_range(groups),
        "void pixels": f"{np.mean(void):.1%}" if void else "-",
    }
    if people:
        rows |= {"people an image": summarise_range(people), "boundary pixels": f"{np.mean(boundary):.1%}"}
    if expected:
        rows["objects that do not arrive"] = f"{max(0, expected - present_objects):,} of {expected:,} sampled"
    share = sum(scattered) / max(1, len(scattered))
    line = f"{share:.0%} of the objects lie in several parts: do the masks separate objects, or only classes?"
    return Part(rows, [line] if share > SCATTERED else []), [count for count in groups if count], refused


def find_scattered(labels: np.ndarray) -> list[bool]:
    """Return of each object whether it has several connected components."""
    boxes = enumerate(ndimage.find_objects(labels.clip(min=0)), start=1)
    return [
        ndimage.label(labels[box] == number, np.ones((3, 3)))[1] > 1
        for number, box in boxes
        if box is not None
    ]


def find_unannotated(dataset: Any, files: list[Path]) -> list[str]:
    """Return a line on the images of a folder that no annotation file names."""
    if type(dataset) is not CocoImages:
        return []
    known = set(files)
    return report_some(
        (path.name for path in sorted(dataset.folder.iterdir()) if path not in known and is_image(path)),
        "images that are not annotated",
    )


class Page:
    """The examination of all splits: rows by split, lines on what to look at, and refusals."""

    def __init__(self, data: SplitData, samples: int) -> None:
        self.data, self.samples = data, samples
        self.rows: dict[str, dict[str, str]] = {}
        self.findings: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.groups: list[int] = []
        self.truths: dict[str, Truth] = {}
        self.files: dict[str, list[Path]] = {}
        for split in SPLITS:
            self.examine(split)
        self.findings += find_duplicates(self.files)

    def examine(self, split: str) -> None:
        """Add a split."""
        print(f"reading {split}", file=sys.stderr, flush=True)
        dataset, truth = self.open_split(split)
        if dataset is not None and (files := list_files(dataset)):
            twin = next((other for other, known in self.files.items() if known == files), None)
            if twin is not None:
                self.findings.append(f"{split}: it is {twin}, which stands in for it")
                return
            self.files[split] = files
        parts = [examine_annotations(truth)] if truth is not None and "annotations" in truth else []
        if dataset is not None:
            whole = None if split == "train" or not parts else truth
            part, groups, refused = examine_samples(dataset, self.samples, whole)
            shown = {} if parts else {"images": f"{len(dataset):,}"}
            parts += [
                Part(shown | part.rows, part.findings),
                Part({}, find_unannotated(dataset, self.files.get(split, []))),
            ]
            if split in self.files:
                parts.append(
                    examine_files(self.files[split], self.samples, self.data.percentile_range is not None)
                )
            self.refused += [(split, line) for line in refused]
            self.groups = groups if split == "train" else self.groups
        if truth is not None and "annotations" in truth:
            self.truths[split] = truth
        if parts:
            self.rows[split] = {key: value for part in parts for key, value in part.rows.items()}
        self.findings += [f"{split}: {line}" for part in parts for line in part.findings]

    def open_split(self, split: str) -> tuple[Any, Truth | None]:
        """Return a split's dataset and truth; None where they are refused, which is noted."""
        try:
            dataset: Any = self.data.dataset(split, training=split == "train")
            return dataset, dataset.truth()
        except UserError as error:
            self.refused.append((split, str(error)))
        try:
            # annotations can be examined without their images
            return None, self.data.truth(split) if isinstance(self.data, InstanceData) else None
        except UserError:
            return None, None

    def show(self, console: Console, config: DictConfig) -> None:
        """Print the page."""
        table = Table("", *self.rows)
        for key in dict.fromkeys(key for rows in self.rows.values() for key in rows):
            table.add_row(key, *(rows.get(key, "") for rows in self.rows.values()))
        if self.rows:
            console.print(table)
        if self.groups and (line := advise_on_config(config, self.groups)) is not None:
            most = 2 * config.embedding.dimension
            over = sum(count > most for count in self.groups) / len(self.groups)
            console.print(f"groups: {line}; {over:.0%} hold more than 2 D = {most}", highlight=False)
        lines = list_categories(self.truths)
        refused = {
            line: ", ".join(split for split, other in self.refused if other == line)
            for _, line in self.refused
        }
        parts = {
            f"categories ({len(lines)}; {' / '.join(self.truths)})": lines[:CATEGORIES_SHOWN]
            + [".."] * (len(lines) > CATEGORIES_SHOWN),
            "look at": self.findings or ["nothing was found"] * bool(self.rows),
            "would be refused": [f"{splits}: {line}" for line, splits in refused.items()][:REFUSALS_SHOWN]
            or ["nothing was found"],
        }
        for title, content in parts.items():
            if content:
                console.print(
                    f"{title}\n" + "\n".join(f"  {line}" for line in content),
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )


def main(arguments: list[str]) -> int:
    """Print the page and write the contact sheet; return 1 where something would be refused."""
    own = [argument for argument in arguments if argument.partition("=")[0] in (*DEFAULTS, "-h", "--help")]
    given = read_arguments(own, DEFAULTS, USAGE)
    check_count("samples", given["samples"], 1, "it is the number of images of a split that are read whole")
    started = time.monotonic()
    config = configure([argument for argument in arguments if argument not in own])
    data = build_data(config)
    page = Page(data, given["samples"])
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(
        f"{data.name}: {config.data.get('root', 'made')}, read in {time.monotonic() - started:.0f} seconds",
        highlight=False,
    )
    page.show(console, config)
    train = data.datasets.get(("train", True))
    if train is not None:
        names = [file.name for file in list_files(train)] or [str(place) for place in range(len(train))]
        draw_contact_sheet(train, names, Path(str(given["output"])))
        print(f"written: {given['output']} (training images, with masks as the network gets them)")
    return int(bool(page.refused))


if __name__ == "__main__":
    run_tool(main)
