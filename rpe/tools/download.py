"""`python -m rpe.tools.download name=voc root=data`: an official data set, unpacked where its reader looks for it.

What lies under `root` comes first: nothing is fetched that is there. A download that was interrupted goes on where it stopped (HTTP
Range; pooch, which would do the rest, starts anew). An archive is checked, unpacked beside its place and moved there whole.
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

from rpe.data.listed import Lists, absent, nothing, of_bsds, of_coco, of_sbd, of_voc
from rpe.data.module import data_root
from rpe.structures import UserError

TRIES = 4
"""Times that one address is asked, each time for what is still missing."""

PAUSE = 2.0
"""Seconds before the second try, twice as long before each further one."""

TIMEOUT = 30.0
CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A file of a data set.

    `md5` is None where its authors publish none and no second source is known: then the archive's own checksums must do.
    `holds` are paths under the root that are there once it is unpacked, `lists` names all files that its reader asks for.
    """

    name: str
    md5: str | None
    urls: tuple[str, ...]
    holds: tuple[str, ...]
    lists: Lists

    def lacks(self, root: Path) -> list[Path]:
        """What is not there of it."""
        return [root / path for path in self.holds if not (root / path).exists()] or absent(root, self.lists)


BERKELEY = (
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping",
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping",
)
COCO = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")
SEGMENTED = tuple(
    f"VOCdevkit/VOC2012/{part}"
    for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass", "SegmentationObject")
)

# md5 of VOC and SBD as torchvision has them; of COCO as several public tools that check it agree
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
            of_voc,
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
            of_sbd,
        ),
    ),
    "coco": (
        Archive(
            "annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            tuple(f"{server}/annotations/annotations_trainval2017.zip" for server in COCO),
            ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
            nothing,
        ),
        Archive(
            "val2017.zip",
            "442b8da7639aecaf257c1dceb8ba8c80",
            tuple(f"{server}/zips/val2017.zip" for server in COCO),
            ("val2017",),
            of_coco("val2017"),
        ),
        Archive(
            "train2017.zip",
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            tuple(f"{server}/zips/train2017.zip" for server in COCO),
            ("train2017",),
            of_coco("train2017"),
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
            of_bsds,
        ),
    ),
}


def say(text: str) -> None:
    """A line for whoever looks on."""
    print(text, file=sys.stderr, flush=True)


def provide(name: str, root: Path, mirror: str | None) -> None:
    """Have a data set under `root`; what is there is left alone.

    Args:
        name: voc, sbd, coco or bsds.
        root: the reader's `data.root`.
        mirror: an address that has the archives under their own names; asked first.

    Raises:
        UserError: no address gives the archive, or it is broken.
    """
    for archive in DATASETS[name]:
        lacking = archive.lacks(root)
        if not lacking:
            say(f"{archive.name}: {root / archive.holds[0]} is there with all that it lists, nothing to do")
            continue
        if (root / archive.holds[0]).exists():
            say(f"{archive.name}: {lacking[0]} is missing ({len(lacking)} such), what is there stays")
        if mirror is not None:
            archive = replace(archive, urls=(f"{mirror.rstrip('/')}/{archive.name}", *archive.urls))
        folder = root / ".download"
        folder.mkdir(parents=True, exist_ok=True)
        file = fetched(archive, folder)
        unpack(archive, file, root)
        file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
        lacking = archive.lacks(root)
        if lacking:
            raise UserError(
                f"{lacking[0]} is not in {archive.name} ({len(lacking)} such), though {root} lists it: its lists are not the official ones"
            )
        say(f"{archive.name}: unpacked into {root}")


# --- fetching -------------------------------------------------------------------------------------------------------------


def fetched(archive: Archive, folder: Path) -> Path:
    """The archive in `folder`, whole and checked; one that was put there by hand is taken as it is.

    Raises:
        UserError: saying of each address what was wrong with it.
    """
    file, partial = folder / archive.name, folder / f"{archive.name}.partial"
    if file.exists():
        say(f"{archive.name}: {file} is there")
        refused = fault(archive, file)
        if refused is None:
            return file
        raise UserError(f"{file} {refused}: remove it, then it is downloaded")
    reasons: list[str] = []
    for url in archive.urls:
        try:
            load(url, partial)
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {describe(error)}")
            say(f"{archive.name}: {reasons[-1]}")
            continue
        refused = fault(archive, partial)
        if refused is None:
            return partial.rename(file)
        partial.unlink()
        reasons.append(f"{url}: it {refused}")
        say(f"{archive.name}: {reasons[-1]}")
    raise UserError(
        f"{archive.name} cannot be had ({'; '.join(reasons)}): put it into {folder} by hand, or name another address as mirror="
    )


def load(url: str, partial: Path) -> None:
    """Append to `partial` what it lacks, in several tries.

    Raises:
        OSError, HTTPException: the address does not have it, or the last try broke off.
    """
    for trial in range(TRIES):
        if trial:
            time.sleep(PAUSE * 2 ** (trial - 1))
        try:
            return load_rest(url, partial)
        except urllib.error.HTTPError as error:
            if error.code < 500 or trial == TRIES - 1:
                raise
        except (OSError, http.client.HTTPException):
            if trial == TRIES - 1:
                raise
    raise AssertionError("not reached")


def load_rest(url: str, partial: Path) -> None:
    """One try, from where `partial` ends."""
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
            return None  # it was whole already
        partial.unlink()  # longer than what the server has: of another file
        return load_rest(url, partial)
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # this server begins anew
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if total is not None and shutil.disk_usage(partial.parent).free < 2 * total - start:
            raise UserError(
                f"{partial.parent} has no room for {2 * total / 1e9:.1f} GB, the archive and what is in it: free some or choose another root"
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


def describe(error: Exception) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


# --- checking and unpacking -----------------------------------------------------------------------------------------------


def fault(archive: Archive, file: Path) -> str | None:
    """What is wrong with the file; None where it is what it should be."""
    if archive.md5 is None:
        say(
            f"{archive.name}: no checksum is published; its size is the server's, and unpacking checks the archive's own"
        )
        return None if tarfile.is_tarfile(file) or zipfile.is_zipfile(file) else "is no archive"
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return (
        None if digest.hexdigest() == archive.md5 else f"has the md5 {digest.hexdigest()}, not {archive.md5}"
    )


def unpack(archive: Archive, file: Path, root: Path) -> None:
    """Unpack beside the place where it belongs, then move it there, so that nothing half unpacked is ever taken for whole.

    Raises:
        UserError: the archive is broken, or holds something else.
    """
    beside = root / ".download" / "unpacked"
    shutil.rmtree(beside, ignore_errors=True)
    say(f"{archive.name}: unpacking")
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
            f"{archive.name} does not unpack ({type(error).__name__}: {error}): it was removed; run this again"
        ) from error
    wanting = [path for path in archive.holds if not (beside / path).exists() and not (root / path).exists()]
    if wanting:
        shutil.rmtree(beside)
        raise UserError(f"{file} holds no {wanting[0]}: it is another archive of that name")
    move_into(beside, root)
    shutil.rmtree(beside)


def move_into(source: Path, target: Path) -> None:
    """Move what `target` lacks into it, whole folders at once; what it has stays as it is."""
    for path in sorted(source.iterdir()):
        there = target / path.name
        if not there.exists():
            path.rename(there)
        elif path.is_dir() and there.is_dir():
            move_into(path, there)


USAGE = f"python -m rpe.tools.download name={'|'.join(DATASETS)} [root=<folder>] [mirror=<address>]"
HELP = f"""{USAGE}

Has an official data set under root (the reader's data.root; $RPE_DATA_DIR, for coco its folder coco, where none is named). What is there stays; what
is missing, by the data set's own lists, is downloaded and unpacked. The same command goes on with a download that was interrupted. mirror is an
address that has the archives under their own names; it is asked first. An archive may also be put into <root>/.download by hand."""


def settings_of(arguments: list[str]) -> tuple[str, Path, str | None]:
    """Name, root and mirror from `key=value` arguments.

    Raises:
        UserError: an argument that is none of them or comes twice, or a name that is unknown.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    wrong = [
        argument
        for argument in arguments
        if argument.split("=", 1)[0] not in ("name", "root", "mirror") or "=" not in argument
    ]
    if wrong:
        raise UserError(f"argument {wrong[0]!r} is unknown: {USAGE}")
    keys = [argument.split("=", 1)[0] for argument in arguments]
    if len(given) < len(keys):
        raise UserError(f"{max(keys, key=keys.count)}= is given twice: {USAGE}")
    name = given.get("name")
    if name not in DATASETS:
        raise UserError(f"{f'data set {name!r} is unknown' if name else 'no data set is named'}: {USAGE}")
    root = given.get("root") or (data_root() / "coco" if name == "coco" else data_root())
    return name, Path(root), given.get("mirror")


def main(arguments: list[str]) -> None:
    """The command; a slip or a failure is one line on stderr and exit status 1."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return
    try:
        provide(*settings_of(arguments))
    except UserError as error:
        say(f"error: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        say("error: interrupted; the same command goes on where it stopped")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(sys.argv[1:])
