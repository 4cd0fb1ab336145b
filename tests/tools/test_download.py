"""Downloads from a server on this machine: whole, interrupted, refused, damaged. No test reaches beyond localhost."""

import hashlib
import http.server
import io
import re
import runpy
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from miniature import write_miniature
from miniature_voc import write_sbd, write_voc

from rpe.data.coco import CocoImages
from rpe.data.module import data_root
from rpe.data.voc import Voc
from rpe.run import build_data
from rpe.run.composing import compose_config
from rpe.structures import UserError
from rpe.tools import download
from rpe.tools.download import DATASETS, Archive, download_rest, main, merge_folders


class Server(http.server.ThreadingHTTPServer):
    """Files by path, with Range; `breaks[path]` bytes into an answer the connection ends, as many times as it is listed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: dict[str, list[int]] = {}
        self.statuses: dict[str, list[int]] = {}
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        statuses = self.server.statuses.get(self.path, [])
        content = self.server.files.get(self.path)
        if statuses or content is None:
            self.send_error(statuses.pop(0) if statuses else 404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        breaks = self.server.breaks.get(self.path, [])
        self.wfile.write(content[start : start + breaks.pop(0)] if breaks else content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def tarred(folder: Path, mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return out.getvalue()


def zipped(folder: Path, top: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted((folder / top).rglob("*")):
            archive.write(path, path.relative_to(folder))
    return out.getvalue()


def serve(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *contents: bytes,
    mirrors: tuple[str, ...] = ("",),
) -> None:
    """Put archives on the server, under each mirror, and let the data set come from nowhere else."""
    archives = []
    for archive, content in zip(DATASETS[name], contents, strict=True):
        urls = tuple(f"{server.address}{mirror}/{archive.name}" for mirror in mirrors)
        for mirror in mirrors:
            server.files[f"{mirror}/{archive.name}"] = content
        # of the same kind as the archive's own
        digest = (
            archive.checksum
            and (hashlib.md5(content) if len(archive.checksum) == 32 else hashlib.sha256(content)).hexdigest()
        )
        archives.append(replace(archive, urls=urls, checksum=digest))
    monkeypatch.setitem(DATASETS, name, tuple(archives))


@pytest.fixture
def voc(tmp_path: Path) -> bytes:
    return tarred(write_voc(tmp_path / "voc"), "w")


def names_of(root: Path, use_sbd: bool = False) -> int:
    data = Voc("voc", str(root), use_sbd, 1, 1, 0, 0, None, 32, None, 0.0)
    return len(data.dataset("train"))


def test_each_data_set_lands_where_its_reader_looks(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "data"
    serve(server, monkeypatch, "voc", voc)
    serve(server, monkeypatch, "sbd", tarred(write_sbd(tmp_path / "sbd"), "w:gz"))
    main(["name=voc", f"root={root}"])
    main(["name=sbd", f"root={root}"])
    assert names_of(root) == 2 and names_of(root, use_sbd=True) == 4
    coco = write_miniature(tmp_path / "coco")
    serve(
        server, monkeypatch, "coco", *(zipped(coco, top) for top in ("annotations", "val2017", "train2017"))
    )
    main(["name=coco", f"root={root / 'coco'}"])
    assert (
        len(
            CocoImages(
                root / "coco/train2017",
                root / "coco/annotations/instances_train2017.json",
                None,
                None,
                0,
                None,
                "",
            )
        )
        == 4
    )
    for part in ("images", "groundTruth"):
        for split in ("train", "val", "test"):
            (tmp_path / "bsds" / "BSR/BSDS500/data" / part / split).mkdir(parents=True)
    serve(server, monkeypatch, "bsds", tarred(tmp_path / "bsds", "w:gz"))
    main(["name=bsds", f"root={root}"])
    assert (root / "BSR/BSDS500/data/groundTruth/test").is_dir()
    assert "no checksum is published" in capsys.readouterr().err
    assert not (root / ".download").exists() and not (root / "coco" / ".download").exists()


def test_stardists_nuclei_are_read_with_their_split(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 7), ("test", 2)):
        for part in ("images", "masks"):
            (tmp_path / "archive/dsb2018" / split / part).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((40, 48), dtype=np.uint16)
            labels[4:20, 5:25], labels[22:36, 8:40] = 1, 2
            name = f"{split}{number:02d}.tif"
            pixels = (100 * (labels > 0) + random.integers(0, 40, labels.shape)).astype(np.uint8)
            for part, content in (("images", pixels), ("masks", labels)):
                tifffile.imwrite(tmp_path / "archive/dsb2018" / split / part / name, content)
    content = zipped(tmp_path / "archive", "dsb2018")
    serve(server, monkeypatch, "nuclei", content)
    root = tmp_path / "data"
    main(["name=nuclei", f"root={root}"])
    data = build_data(compose_config(["experiment=nuclei", "data=dsb2018", f"data.root={root / 'dsb2018'}"]))
    names = {
        split: {image["file_name"] for image in data.truth(split)["images"]}
        for split in ("train", "val", "test")
    }
    assert names["test"] == {"test00.tif", "test01.tif"} and len(names["val"]) == 1
    assert names["train"] | names["val"] == {f"train{number:02d}.tif" for number in range(7)}
    assert len(data.truth("test")["annotations"]) == 4 and data.reader.percentile_range == (1, 99.8)

    (root / "dsb2018/test/masks/test01.tif").unlink()
    main(["name=nuclei", f"root={root}"])
    assert "test01.tif is missing (1 such), existing files stay" in capsys.readouterr().err
    server.files["/dsb2018.zip"] = content[:-1] + b"?"
    assert "it has the sha256" in refused(capsys, "name=nuclei", f"root={tmp_path / 'other'}")


def test_what_is_there_is_left_alone(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_sbd(write_voc(tmp_path))
    coco = write_miniature(tmp_path / "coco")
    for name, where in (("voc", root), ("sbd", root), ("coco", coco)):
        before = {path: path.stat().st_mtime_ns for path in where.rglob("*")}
        main([f"name={name}", f"root={where}", f"mirror={server.address}"])
        assert "nothing to do" in capsys.readouterr().err
        assert before == {path: path.stat().st_mtime_ns for path in where.rglob("*")}
    assert server.asked == []


def test_what_is_missing_is_fetched_and_what_is_there_stays(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "data"
    coco = write_miniature(tmp_path / "coco")
    serve(server, monkeypatch, "voc", voc)
    serve(server, monkeypatch, "sbd", tarred(write_sbd(tmp_path / "sbd"), "w:gz"))
    serve(
        server, monkeypatch, "coco", *(zipped(coco, top) for top in ("annotations", "val2017", "train2017"))
    )
    for name, file in (
        ("voc", "VOCdevkit/VOC2012/JPEGImages/2008_000002.jpg"),
        ("voc", "VOCdevkit/VOC2012/SegmentationClass/2009_000007.png"),
        ("voc", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"),
        ("sbd", "benchmark_RELEASE/dataset/inst/2008_000005.mat"),
        ("coco", "train2017/000000000002.png"),
    ):
        main([f"name={name}", f"root={root}"])
        mine = next(
            path
            for path in root.rglob("*")
            if path.suffix in (".jpg", ".mat", ".png") and path != root / file
        )
        mine.write_bytes(b"mine")
        (root / file).unlink()
        capsys.readouterr()
        main([f"name={name}", f"root={root}"])
        assert f"{root / file} is missing (1 such), existing files stay" in capsys.readouterr().err
        assert (root / file).is_file() and mine.read_bytes() == b"mine"
        shutil.rmtree(root)


def test_a_list_that_is_not_the_archives_is_named(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server, monkeypatch, "voc", voc)
    main(["name=voc", f"root={tmp_path}"])
    with (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").open("a") as names:
        names.write("2010_000001")
    assert "2010_000001.jpg (3 such) that VOCtrainval_11-May-2012.tar lacks" in refused(
        capsys, "name=voc", f"root={tmp_path}"
    )


def test_real_data_are_left_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    if not (data_root() / "BSR").is_dir():
        pytest.skip(f"{data_root() / 'BSR'} is absent: set RPE_DATA_DIR to the real data")
    for name in ("voc", "sbd", "coco", "bsds"):
        main([f"name={name}", f"mirror={server.address}"])
    assert capsys.readouterr().err.count("nothing to do") == 6 and server.asked == []


def test_an_interrupted_download_goes_on_where_it_stopped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voc: bytes
) -> None:
    serve(server, monkeypatch, "voc", voc)
    path = f"/{DATASETS['voc'][0].name}"
    server.breaks[path] = [5000, 7000]
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert [asked[1] for asked in server.asked] == [None, "bytes=5000-", "bytes=12000-"] and names_of(
        tmp_path / "data"
    ) == 2


def test_a_killed_download_goes_on_where_it_stopped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voc: bytes
) -> None:
    serve(server, monkeypatch, "voc", voc)
    partial = tmp_path / "data" / ".download" / f"{DATASETS['voc'][0].name}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(voc[:4321])
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert [asked[1] for asked in server.asked] == ["bytes=4321-"] and names_of(tmp_path / "data") == 2


def test_interruption_by_the_user_keeps_what_came(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server, monkeypatch, "voc", voc)
    monkeypatch.setattr(download, "CHUNK", 1000)
    updates = iter(range(5))

    class Bar(download.tqdm):  # type: ignore[misc]
        def update(self, count: float = 1) -> None:
            if next(updates, None) is None:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "tqdm", Bar)
        with pytest.raises(SystemExit) as stop:
            main(["name=voc", f"root={tmp_path / 'data'}"])
    assert stop.value.code == 130 and "the same command resumes where it stopped" in capsys.readouterr().err
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert server.asked[-1][1] == "bytes=6000-" and names_of(tmp_path / "data") == 2


def test_a_server_without_ranges_begins_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voc: bytes
) -> None:
    serve(server, monkeypatch, "voc", voc)
    server.ranges = False
    server.breaks[f"/{DATASETS['voc'][0].name}"] = [5000]
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert names_of(tmp_path / "data") == 2


def test_a_partial_that_is_whole_or_too_long(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = b"0123456789"
    partial = tmp_path / "a.partial"
    for there in (b"0123456789", b"0123456789abc", b"01234"):
        partial.write_bytes(there)
        download_rest(f"{server.address}/a", partial)
        assert partial.read_bytes() == b"0123456789"


def test_the_next_mirror_is_asked(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server, monkeypatch, "voc", voc, mirrors=("/one", "/two", "/three"))
    name = DATASETS["voc"][0].name
    del server.files[f"/one/{name}"]
    server.files[f"/two/{name}"] = voc[:-512] + b"\1" * 512
    main(["name=voc", f"root={tmp_path / 'data'}"])
    told = capsys.readouterr().err
    assert (
        f"/one/{name}: 404" in told
        and f"/two/{name}: it has the md5" in told
        and names_of(tmp_path / "data") == 2
    )
    assert [asked[0] for asked in server.asked] == [f"/one/{name}", f"/two/{name}", f"/three/{name}"], (
        "404 is final"
    )


def test_a_busy_server_is_asked_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voc: bytes
) -> None:
    serve(server, monkeypatch, "voc", voc)
    server.statuses[f"/{DATASETS['voc'][0].name}"] = [503, 500]
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert len(server.asked) == 3 and names_of(tmp_path / "data") == 2


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_wrong_checksum_everywhere(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server, monkeypatch, "voc", voc)
    name = DATASETS["voc"][0].name
    server.files[f"/{name}"] = voc[:-512] + b"\1" * 512
    line = refused(capsys, "name=voc", f"root={tmp_path / 'data'}")
    assert f"{name} cannot be downloaded" in line and "it has the md5" in line and "mirror=" in line
    assert not (tmp_path / "data" / "VOCdevkit").exists() and not list(
        (tmp_path / "data" / ".download").iterdir()
    )


def test_no_address_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = replace(DATASETS["voc"][0], urls=(f"{server.address}/nowhere", "http://127.0.0.1:1/refused"))
    monkeypatch.setitem(DATASETS, "voc", (nowhere,))
    line = refused(capsys, "name=voc", f"root={tmp_path}")
    assert "/nowhere: 404" in line and "127.0.0.1:1/refused: " in line and "refused" in line


def test_an_archive_put_there_by_hand(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server, monkeypatch, "voc", voc)
    file = tmp_path / "data" / ".download" / DATASETS["voc"][0].name
    file.parent.mkdir(parents=True)
    file.write_bytes(voc[:100])
    assert "has the md5" in refused(capsys, "name=voc", f"root={tmp_path / 'data'}")
    file.write_bytes(voc)
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert names_of(tmp_path / "data") == 2 and server.asked == []


def test_archives_that_break_while_unpacked_leave_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bsds" / "BSR/BSDS500/data/images/train"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(bytes(range(256)) * 2000)
    whole = tarred(tmp_path / "bsds", "w:gz")
    for content, message in (
        (whole[:-40], "cannot be unpacked"),
        (whole, "must hold BSR/BSDS500/data/images/val"),
        (b"<html>", "it is not an archive"),
    ):
        root = tmp_path / message.split()[-1].replace("/", "_")
        serve(server, monkeypatch, "bsds", content)
        assert message in refused(capsys, "name=bsds", f"root={root}")
        assert not (root / "BSR").exists() and not (root / ".download" / "unpacked").exists()


def test_an_archive_cannot_write_outside(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("../../../evil")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    serve(server, monkeypatch, "bsds", out.getvalue())
    assert "cannot be unpacked" in refused(capsys, "name=bsds", f"root={tmp_path / 'a' / 'b'}")
    assert not list(tmp_path.rglob("evil"))


def test_other_years_and_files_stay(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voc: bytes
) -> None:
    serve(server, monkeypatch, "voc", voc)
    older = tmp_path / "data" / "VOCdevkit" / "VOC2007" / "a"
    older.parent.mkdir(parents=True)
    older.write_text("mine")
    main(["name=voc", f"root={tmp_path / 'data'}"])
    assert older.read_text() == "mine" and names_of(tmp_path / "data") == 2
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a").write_text("theirs")
    merge_folders(tmp_path / "new", older.parent)
    assert older.read_text() == "mine"


def test_no_room(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    voc: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server, monkeypatch, "voc", voc)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": len(voc)})())
    assert "root must have " in refused(capsys, "name=voc", f"root={tmp_path / 'data'}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "name must be one of voc, sbd, coco, bsds, nuclei, got none. Usage: python -m rpe.tools.download name=voc|sbd|coco|bsds|nuclei",
        ),
        (["name=imagenet"], "name must be one of voc, sbd, coco, bsds, nuclei, got imagenet"),
        (["name=voc", "rot=x"], "arguments must be name=, root= or mirror=, got 'rot=x'"),
        (["voc"], "arguments must be name=, root= or mirror=, got 'voc'"),
        (
            ["name=voc", "root=a", "root=b"],
            "root must be given once, got two. Usage: python -m rpe.tools.download",
        ),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, *arguments)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_not_an_error(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([flag])
    told = capsys.readouterr()
    assert (
        told.out.startswith("python -m rpe.tools.download name=voc|sbd|coco|bsds|nuclei")
        and "mirror" in told.out
        and not told.err
    )


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `python -m` does, without a new process."""
    root = write_voc(tmp_path / "data")
    monkeypatch.setattr(sys, "argv", ["download.py", "name=voc", f"root={root}"])
    monkeypatch.delitem(sys.modules, "rpe.tools.download")
    runpy.run_module("rpe.tools.download", run_name="__main__")
    assert "nothing to do" in capsys.readouterr().err


def test_checksums_and_addresses_are_well_formed() -> None:
    for name, archives in DATASETS.items():
        for archive in archives:
            assert (
                isinstance(archive, Archive)
                and archive.holds
                and len(set(archive.urls)) == len(archive.urls) >= 2
            )
            assert all(
                url.startswith(("http://", "https://")) and url.endswith(archive.name) for url in archive.urls
            )
            digits = {"bsds": 0, "nuclei": 64}.get(name, 32)
            assert re.fullmatch(f"[0-9a-f]{{{digits}}}", archive.checksum or "")
    with pytest.raises(UserError):
        download.parse_settings(["name=x"])
