from pathlib import Path

from miniature import write_miniature
from miniature_voc import AUGMENTED, write_sbd, write_voc

from rpe.data.listed import (
    absent,
    count_suffixes,
    instead_of,
    nothing,
    of_bsds,
    of_coco,
    of_sbd,
    of_voc,
    suffixes_in,
)


def test_what_a_reader_asks_for_is_listed(tmp_path: Path) -> None:
    root = write_sbd(write_voc(tmp_path / "data"))
    coco = write_miniature(tmp_path / "coco")
    assert (
        absent(root, of_voc)
        == absent(root, of_sbd)
        == absent(coco, of_coco("train2017"))
        == absent(root, nothing)
        == []
    )
    assert len(set(of_voc(root))) == 2 + 3 * 5 and len(set(of_coco("val2017")(coco))) == 4
    for lists, base, file in (
        (of_voc, root, "VOCdevkit/VOC2012/SegmentationObject/2007_000003.png"),
        (of_sbd, root, "benchmark_RELEASE/dataset/cls/2008_000006.mat"),
        (of_sbd, root, f"benchmark_RELEASE/dataset/img/{AUGMENTED[-1]}.jpg"),
        (of_coco("val2017"), coco, "val2017/000000000101.png"),
    ):
        (base / file).unlink()
        assert absent(base, lists)[-1] == base / file
    (root / "benchmark_RELEASE/dataset/img/2008_000002.jpg").unlink()
    assert len(absent(root, of_sbd)) == 2, "VOC has that photograph"


def test_an_image_without_annotations_and_annotations_without_an_image(tmp_path: Path) -> None:
    data = tmp_path / "BSR/BSDS500/data"
    for file in (
        "images/train/1.jpg",
        "groundTruth/train/1.mat",
        "images/val/2.jpg",
        "groundTruth/test/3.mat",
    ):
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        (data / file).touch()
    assert absent(tmp_path, of_bsds) == [data / "groundTruth/val/2.mat", data / "images/test/3.jpg"]


def test_nothing_there_lists_the_lists(tmp_path: Path) -> None:
    assert [file.name for file in absent(tmp_path, of_voc)] == ["train.txt", "val.txt"]
    assert absent(tmp_path, of_sbd) == absent(tmp_path, of_coco("val2017")) == absent(tmp_path, of_bsds) == []


def test_files_are_counted_by_suffix_and_those_in_anothers_place_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.PNG", "c.png", "notes", ".hidden.tif", "Thumbs.db"):
        (tmp_path / name).touch()
    assert suffixes_in(tmp_path, {".jpg"}, {".db"}) == "2 *.png, 1 *.PNG and 1 without suffix"
    assert (
        suffixes_in(tmp_path, {".png", ".PNG", ""}, {".db"})
        == suffixes_in(tmp_path / "absent", ())
        == count_suffixes([])
        == ""
    )
    assert (
        instead_of(tmp_path / "b.png") == "; there is b.PNG"
        and instead_of(tmp_path / "A.jpg") == "; there is a.png"
    )
    assert instead_of(tmp_path / "d.png") == instead_of(tmp_path / "absent" / "a.png") == ""
