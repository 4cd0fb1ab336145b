"""Download a public data set and unpack it where its reader looks for it.

Files under `root` are never fetched again. An interrupted download resumes by HTTP Range; pooch, which would
do the rest, starts again. An archive is checked, unpacked beside its place and moved there whole.
"""

import hashlib
import http.client
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from rpe.data.listed import (
    Lists,
    list_bsds_files,
    list_coco_files,
    list_dsb2018_files,
    list_missing_files,
    list_no_files,
    list_sbd_files,
    list_voc_files,
)
from rpe.data.module import data_root
from rpe.structures import UserError

TRIES = 4
"""Attempts at one address; each requests the missing bytes only."""

PAUSE = 2.0
"""Seconds before the second attempt, doubled before each further one."""

TIMEOUT = 30.0
CHUNK = 1 << 20
MD5_DIGITS = 32


@dataclass(frozen=True)
class Archive:
    """A file of a data set.

    Args:
        name: the file's name.
        checksum: its md5 or sha256; None where its authors publish none and no second source is known.
        urls: its addresses.
        holds: paths under the root that exist once it is unpacked.
        lists: names all files that its reader opens.
    """

    name: str
    checksum: str | None
    urls: tuple[str, ...]
    holds: tuple[str, ...]
    lists: Lists

    def find_missing(self, root: Path) -> list[Path]:
        """Return the archive's files that are not under the root."""
        return [root / path for path in self.holds if not (root / path).exists()] or list_missing_files(
            root, self.lists
        )


BERKELEY = (
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping",
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping",
)
COCO = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")
SEGMENTED = tuple(
    f"VOCdevkit/VOC2012/{part}"
    for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass", "SegmentationObject")
)

# md5 of VOC and SBD from torchvision, of COCO from several public tools that agree
DATASETS: dict[str, tuple[Archive, ...]] = {
    "voc": (
        Archive(
            "VOCtrainval_11-May-2012.tar",
            "6cd6e144f989b92b3379bac3b3de84fd",
            (
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
            ),
            SEGMENTED,
            list_voc_files,
        ),
    ),
    "sbd": (
        Archive(
            "benchmark.tgz",
            "82b4d87ceb2ed10f6038a1cba92111cb",
            tuple(f"{server}/semantic_contours/benchmark.tgz" for server in BERKELEY),
            tuple(
                f"benchmark_RELEASE/dataset/{part}" for part in ("inst", "cls", "img", "train.txt", "val.txt")
            ),
            list_sbd_files,
        ),
    ),
    "coco": (
        Archive(
            "annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            tuple(f"{server}/annotations/annotations_trainval2017.zip" for server in COCO),
            ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
            list_no_files,
        ),
        Archive(
            "val2017.zip",
            "442b8da7639aecaf257c1dceb8ba8c80",
            tuple(f"{server}/zips/val2017.zip" for server in COCO),
            ("val2017",),
            list_coco_files("val2017"),
        ),
        Archive(
            "train2017.zip",
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            tuple(f"{server}/zips/train2017.zip" for server in COCO),
            ("train2017",),
            list_coco_files("train2017"),
        ),
    ),
    "bsds": (
        Archive(
            "BSR_bsds500.tgz",
            None,
            tuple(f"{server}/BSR/BSR_bsds500.tgz" for server in BERKELEY),
            tuple(
                f"BSR/BSDS500/data/{part}/{split}"
                for part in ("images", "groundTruth")
                for split in ("train", "val", "test")
            ),
            list_bsds_files,
        ),
    ),
    "nuclei": (
        Archive(
            "dsb2018.zip",
            "e44921950edce378063aa4457e625581ba35b4c2dbd9a07c19d48900129f386f",
            tuple(
                f"https://github.com/{owner}/stardist/releases/download/0.1.0/dsb2018.zip"
                for owner in ("stardist", "mpicbg-csbd")
            ),
            tuple(f"dsb2018/{split}/{part}" for split in ("train", "test") for part in ("images", "masks")),
            list_dsb2018_files,
        ),
    ),
}


def print_line(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def provide_dataset(name: str, root: Path, mirror: str | None) -> None:
    """Download what a data set lacks under `root`.

    Args:
        name: a key of `DATASETS`.
        root: the reader's `data.root`.
        mirror: an address with the archives under their own names; it is tried first.

    Raises:
        UserError: no address gives the archive, or it is broken.
    """
    for archive in DATASETS[name]:
        lacking = archive.find_missing(root)
        if not lacking:
            print_line(f"{archive.name}: {root / archive.holds[0]} is complete, nothing to do")
            continue
        if (root / archive.holds[0]).exists():
            print_line(f"{archive.name}: {lacking[0]} is missing ({len(lacking)} such), existing files stay")
        if mirror is not None:
            archive = replace(archive, urls=(f"{mirror.rstrip('/')}/{archive.name}", *archive.urls))
        folder = root / ".download"
        folder.mkdir(parents=True, exist_ok=True)
        file = fetch_archive(archive, folder)
        unpack_archive(archive, file, root)
        file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
        lacking = archive.find_missing(root)
        if lacking:
            raise UserError(
                f"root must hold the official lists, got {root}, "
                f"which lists {lacking[0]} ({len(lacking)} such) that {archive.name} lacks. "
                "Choose another root."
            )
        print_line(f"{archive.name}: unpacked into {root}")


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Return the archive in `folder`, complete and checked; one that lies there already is checked alone.

    Raises:
        UserError: no address gives the archive; the message has the reason of each.
    """
    file, partial = folder / archive.name, folder / f"{archive.name}.partial"
    if file.exists():
        print_line(f"{archive.name}: {file} is there")
        refused = find_fault(archive, file)
        if refused is None:
            return file
        raise UserError(
            f"{file} must be the official archive, got another: {refused}. Remove it to download it."
        )
    reasons: list[str] = []
    for url in archive.urls:
        try:
            download_file(url, partial)
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {describe_error(error)}")
            print_line(f"{archive.name}: {reasons[-1]}")
            continue
        refused = find_fault(archive, partial)
        if refused is None:
            return partial.rename(file)
        partial.unlink()
        reasons.append(f"{url}: {refused}")
        print_line(f"{archive.name}: {reasons[-1]}")
    raise UserError(
        f"{archive.name} cannot be downloaded ({'; '.join(reasons)}). "
        f"Put it into {folder} by hand, or name another address as mirror=."
    )


def download_file(url: str, partial: Path) -> None:
    """Append the missing bytes to `partial`, in several attempts.

    Raises:
        OSError, HTTPException: the address does not have it, or the last attempt broke off.
    """
    for trial in range(TRIES):
        if trial:
            time.sleep(PAUSE * 2 ** (trial - 1))
        try:
            return download_rest(url, partial)
        except urllib.error.HTTPError as error:
            if error.code < 500 or trial == TRIES - 1:
                raise
        except (OSError, http.client.HTTPException):
            if trial == TRIES - 1:
                raise
    raise AssertionError("not reached")


def download_rest(url: str, partial: Path) -> None:
    """Make one attempt, from the end of `partial`.

    Raises:
        UserError: the disk is too full.
        ConnectionError: the connection broke off.
    """
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "rpe"} | ({"Range": f"bytes={start}-"} if start else {})
    )
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{start}"):
            return None  # it was complete already
        partial.unlink()  # longer than on the server: of another file
        return download_rest(url, partial)
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # this server ignores Range
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if total is not None and shutil.disk_usage(partial.parent).free < 2 * total - start:
            raise UserError(
                f"root must have {2 * total / 1e9:.1f} GB free for the archive and its content, "
                f"got {partial.parent}. Free some, or choose another root."
            )
        terminal = sys.stderr.isatty()
        with (
            partial.open("ab" if start else "wb") as out,
            tqdm(
                desc=partial.stem,
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                mininterval=0.5 if terminal else 15.0,
            ) as bar,
        ):
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    if total is not None and partial.stat().st_size != total:
        raise ConnectionError(f"broke off after {partial.stat().st_size} of {total} bytes")
    return None


def describe_error(error: Exception) -> str:
    """Return an error in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def find_fault(archive: Archive, file: Path) -> str | None:
    """Return what is wrong with the file; None where it is correct."""
    if archive.checksum is None:
        print_line(
            f"{archive.name}: no checksum is published; its size is the server's, "
            "and unpacking checks the archive's own"
        )
        return None if tarfile.is_tarfile(file) or zipfile.is_zipfile(file) else "it is not an archive"
    algorithm = "md5" if len(archive.checksum) == MD5_DIGITS else "sha256"
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return (
        None
        if digest.hexdigest() == archive.checksum
        else f"it has the {algorithm} {digest.hexdigest()}, not {archive.checksum}"
    )


def unpack_archive(archive: Archive, file: Path, root: Path) -> None:
    """Unpack beside the target folder, then move the files there.

    So a partly unpacked archive is never taken as complete.

    Raises:
        UserError: the archive is broken, or holds something else.
    """
    beside = root / ".download" / "unpacked"
    shutil.rmtree(beside, ignore_errors=True)
    print_line(f"{archive.name}: unpacking")
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as content:
                content.extractall(beside)
        else:
            with tarfile.open(file) as content:
                content.extractall(beside, filter="data")
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        file.unlink()
        raise UserError(
            f"{archive.name} cannot be unpacked ({type(error).__name__}: {error}) and was removed. "
            "Run the command again."
        ) from error
    wanting = [path for path in archive.holds if not (beside / path).exists() and not (root / path).exists()]
    if wanting:
        shutil.rmtree(beside)
        raise UserError(f"{file} must hold {wanting[0]}, got another archive of that name. Remove it.")
    merge_folders(beside, root)
    shutil.rmtree(beside)


def merge_folders(source: Path, target: Path) -> None:
    """Move what `target` lacks into it, whole folders at once; existing files stay."""
    for path in sorted(source.iterdir()):
        there = target / path.name
        if not there.exists():
            path.rename(there)
        elif path.is_dir() and there.is_dir():
            merge_folders(path, there)


USAGE = f"python -m rpe.tools.download name={'|'.join(DATASETS)} [root=<folder>] [mirror=<address>]"
HELP = f"""{USAGE}

Download a public data set and unpack it under root, the reader's data.root. The default is $RPE_DATA_DIR,
for coco its folder coco. nuclei is StarDist's selection of DSB2018, which data=dsb2018 reads. Existing files
stay; missing files of the data set's own lists are downloaded. The same command resumes an interrupted
download. mirror is an address with the archives under their names, which is tried first. An archive may also
be put into <root>/.download by hand."""


def parse_settings(arguments: list[str]) -> tuple[str, Path, str | None]:
    """Return name, root and mirror from `key=value` arguments.

    Raises:
        UserError: an argument is unknown or given twice, or the name is unknown.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    wrong = [
        argument
        for argument in arguments
        if argument.split("=", 1)[0] not in ("name", "root", "mirror") or "=" not in argument
    ]
    if wrong:
        raise UserError(f"arguments must be name=, root= or mirror=, got {wrong[0]!r}. Usage: {USAGE}")
    keys = [argument.split("=", 1)[0] for argument in arguments]
    if len(given) < len(keys):
        raise UserError(f"{max(keys, key=keys.count)} must be given once, got two. Usage: {USAGE}")
    name = given.get("name")
    if name not in DATASETS:
        raise UserError(f"name must be one of {', '.join(DATASETS)}, got {name or 'none'}. Usage: {USAGE}")
    root = given.get("root") or (data_root() / "coco" if name == "coco" else data_root())
    return name, Path(root), given.get("mirror")


def main(arguments: list[str]) -> None:
    """Run the command; an error is one line on stderr and exit status 1."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return
    try:
        provide_dataset(*parse_settings(arguments))
    except UserError as error:
        print_line(f"error: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print_line("error: interrupted; the same command resumes where it stopped")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(sys.argv[1:])
