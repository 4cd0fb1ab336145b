"""Tell images from other files, list the files of an official dataset, find missing and similar ones."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from PIL import Image

Lists = Callable[[Path], Iterable[Path]]
"""A function from the root to the files that a dataset must hold."""

YEAR = Path("VOCdevkit/VOC2012")
SBD = Path("benchmark_RELEASE/dataset")
BSDS = Path("BSR/BSDS500/data")
DSB2018 = Path("dsb2018")
FILE_NAME = re.compile(rb'"file_name"\s*:\s*"([^"\\]+)"')


def is_image(path: Path) -> bool:
    """Return whether a path is a file with a suffix that Pillow opens."""
    return (
        Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN
        and not path.name.startswith(".")
        and path.is_file()
    )


def list_missing_files(root: Path, lists: Lists) -> list[Path]:
    """Return the missing files, sorted. Each folder is listed once."""
    missing: list[Path] = []
    for folder, files in groupby(sorted(set(lists(root))), key=lambda file: file.parent):
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        missing += [file for file in files if file.name not in present]
    return missing


def count_suffixes(files: Iterable[Path]) -> str:
    """Count files by suffix, most frequent first, as "3 *.png and 1 without suffix". No file gives ""."""
    counts = Counter(file.suffix for file in files).most_common()
    words = [f"{number} *{suffix}" if suffix else f"{number} without suffix" for suffix, number in counts]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def suffixes_in(folder: Path, known: Iterable[str], ignored: Iterable[str] = ()) -> str:
    """Count the files of a folder with other suffixes than the known ones. Hidden files are left out."""
    expected = {*known, *ignored}
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return count_suffixes(
        file
        for file in files
        if file.suffix not in expected and not file.name.startswith(".") and file.is_file()
    )


def name_similar_file(file: Path) -> str:
    """Return "; there is <name>" for a file with the same stem and another suffix, else "". For messages."""
    if not file.parent.is_dir():
        return ""
    stem = file.stem.lower()
    similar = sorted(other.name for other in file.parent.iterdir() if other.stem.lower() == stem)
    return f"; there is {similar[0]}" if similar else ""


def read_words(*files: Path) -> Iterator[str]:
    """Yield the words of the files that exist."""
    for file in files:
        if file.is_file():
            yield from file.read_text(errors="replace").split()


def list_voc_files(root: Path) -> Iterator[Path]:
    """Yield VOC's lists, and the photograph and both masks of each image of train and val."""
    folder = root / YEAR
    lists = [folder / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val")]
    yield from lists
    for name in read_words(*lists):
        yield folder / "JPEGImages" / f"{name}.jpg"
        for part in ("SegmentationObject", "SegmentationClass"):
            yield folder / part / f"{name}.png"


def list_sbd_files(root: Path) -> Iterator[Path]:
    """Yield both MATLAB files of each of SBD's images, and the photograph unless VOC has it."""
    folder, pictures = root / SBD, root / YEAR / "JPEGImages"
    known = {path.stem for path in pictures.iterdir()} if pictures.is_dir() else set()
    for name in read_words(folder / "train.txt", folder / "val.txt"):
        yield folder / "inst" / f"{name}.mat"
        yield folder / "cls" / f"{name}.mat"
        if name not in known:
            yield folder / "img" / f"{name}.jpg"


def list_coco_files(split: str) -> Lists:
    """Return a function that yields all images named in a split's annotations.

    Names are searched as text, as parsing the 448 MB takes long and 2 GB of memory.
    """

    def lists(root: Path) -> Iterator[Path]:
        file = root / "annotations" / f"instances_{split}.json"
        for name in FILE_NAME.findall(file.read_bytes()) if file.is_file() else ():
            yield root / split / name.decode()

    return lists


def list_bsds_files(root: Path) -> Iterator[Path]:
    """Yield image and annotation file of each name that has one of them, as BSDS500 has no lists."""
    for split in ("train", "val", "test"):
        images, truth = root / BSDS / "images" / split, root / BSDS / "groundTruth" / split
        for name in {path.stem for path in [*images.glob("*.jpg"), *truth.glob("*.mat")]}:
            yield images / f"{name}.jpg"
            yield truth / f"{name}.mat"


def list_dsb2018_files(root: Path) -> Iterator[Path]:
    """Yield image and label map of each name that has one of them, as StarDist's archive has no lists."""
    for split in ("train", "test"):
        folders = [root / DSB2018 / split / part for part in ("images", "masks")]
        for name in {path.name for folder in folders for path in folder.glob("*.tif")}:
            yield from (folder / name for folder in folders)


def list_no_files(root: Path) -> Iterable[Path]:
    """Return no file, for an archive without lists."""
    return ()
