"""Which files an official data set should hold, by its own lists: what its reader will ask for; and what lies in their place."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

Lists = Callable[[Path], Iterable[Path]]
"""From the root to the files that should be there."""

YEAR = Path("VOCdevkit/VOC2012")
SBD = Path("benchmark_RELEASE/dataset")
BSDS = Path("BSR/BSDS500/data")
FILE_NAME = re.compile(rb'"file_name"\s*:\s*"([^"\\]+)"')


def absent(root: Path, lists: Lists) -> list[Path]:
    """The files that are not there, in the order of the list; each folder is looked through once."""
    gone: list[Path] = []
    for folder, files in groupby(sorted(set(lists(root))), key=lambda file: file.parent):
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        gone += [file for file in files if file.name not in there]
    return gone


def count_suffixes(files: Iterable[Path]) -> str:
    """Count files by suffix, the most first, such as "3 *.png and 1 without suffix"; empty without files."""
    counts = Counter(file.suffix for file in files).most_common()
    words = [f"{number} *{suffix}" if suffix else f"{number} without suffix" for suffix, number in counts]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def suffixes_in(folder: Path, known: Iterable[str], ignored: Iterable[str] = ()) -> str:
    """Count the files of a folder that end otherwise than in the known suffixes; hidden ones apart."""
    passed = {*known, *ignored}
    others = folder.iterdir() if folder.is_dir() else ()
    return count_suffixes(
        sorted(
            file
            for file in others
            if file.suffix not in passed and not file.name.startswith(".") and file.is_file()
        )
    )


def instead_of(file: Path) -> str:
    """Name a file of the same stem with another suffix, for a message: "; there is a.png"; empty where there is none."""
    if not file.parent.is_dir():
        return ""
    stem = file.stem.lower()
    there = sorted(other.name for other in file.parent.iterdir() if other.stem.lower() == stem)
    return f"; there is {there[0]}" if there else ""


def names_in(*files: Path) -> Iterator[str]:
    """The words of the lists that exist."""
    for file in files:
        if file.is_file():
            yield from file.read_text(errors="replace").split()


def of_voc(root: Path) -> Iterator[Path]:
    """Photograph and both masks of each image of train and val."""
    folder = root / YEAR
    lists = [folder / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val")]
    yield from lists
    for name in names_in(*lists):
        yield folder / "JPEGImages" / f"{name}.jpg"
        for part in ("SegmentationObject", "SegmentationClass"):
            yield folder / part / f"{name}.png"


def of_sbd(root: Path) -> Iterator[Path]:
    """Both MATLAB files of each image, and the photograph unless VOC has it."""
    folder, pictures = root / SBD, root / YEAR / "JPEGImages"
    known = {path.stem for path in pictures.iterdir()} if pictures.is_dir() else set()
    for name in names_in(folder / "train.txt", folder / "val.txt"):
        yield folder / "inst" / f"{name}.mat"
        yield folder / "cls" / f"{name}.mat"
        if name not in known:
            yield folder / "img" / f"{name}.jpg"


def of_coco(split: str) -> Lists:
    """All images that the annotations of a split name; found as text, as parsing 448 MB takes long and two GB."""

    def lists(root: Path) -> Iterator[Path]:
        file = root / "annotations" / f"instances_{split}.json"
        for name in FILE_NAME.findall(file.read_bytes()) if file.is_file() else ():
            yield root / split / name.decode()

    return lists


def of_bsds(root: Path) -> Iterator[Path]:
    """To each image its annotations, and to these the image: there is no list."""
    for split in ("train", "val", "test"):
        images, drawn = root / BSDS / "images" / split, root / BSDS / "groundTruth" / split
        for name in {path.stem for path in images.glob("*.jpg")} | {
            path.stem for path in drawn.glob("*.mat")
        }:
            yield images / f"{name}.jpg"
            yield drawn / f"{name}.mat"


def nothing(root: Path) -> Iterable[Path]:
    """For an archive whose folders say it all."""
    return ()
