from pathlib import Path

from miniature import write_miniature
from miniature_voc import AUGMENTED, write_sbd, write_voc

from rpe.data.listed import (
    count_suffixes,
    list_bsds_files,
    list_coco_files,
    list_missing_files,
    list_no_files,
    list_sbd_files,
    list_voc_files,
    name_similar_file,
    suffixes_in,
)


def test_what_a_reader_asks_for_is_listed(tmp_path: Path) -> None:
    root = write_sbd(write_voc(tmp_path / "data"))
    coco = write_miniature(tmp_path / "coco")
    assert (
        list_missing_files(root, list_voc_files)
        == list_missing_files(root, list_sbd_files)
        == list_missing_files(coco, list_coco_files("train2017"))
        == list_missing_files(root, list_no_files)
        == []
    )
    assert len(set(list_voc_files(root))) == 2 + 3 * 5 and len(set(list_coco_files("val2017")(coco))) == 4
    for lists, base, file in (
        (list_voc_files, root, "VOCdevkit/VOC2012/SegmentationObject/2007_000003.png"),
        (list_sbd_files, root, "benchmark_RELEASE/dataset/cls/2008_000006.mat"),
        (list_sbd_files, root, f"benchmark_RELEASE/dataset/img/{AUGMENTED[-1]}.jpg"),
        (list_coco_files("val2017"), coco, "val2017/000000000101.png"),
    ):
        (base / file).unlink()
        assert list_missing_files(base, lists)[-1] == base / file
    (root / "benchmark_RELEASE/dataset/img/2008_000002.jpg").unlink()
    assert len(list_missing_files(root, list_sbd_files)) == 2, "VOC has that photograph"


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
    assert list_missing_files(tmp_path, list_bsds_files) == [
        data / "groundTruth/val/2.mat",
        data / "images/test/3.jpg",
    ]


def test_nothing_there_lists_the_lists(tmp_path: Path) -> None:
    assert [file.name for file in list_missing_files(tmp_path, list_voc_files)] == ["train.txt", "val.txt"]
    assert (
        list_missing_files(tmp_path, list_sbd_files)
        == list_missing_files(tmp_path, list_coco_files("val2017"))
        == list_missing_files(tmp_path, list_bsds_files)
        == []
    )


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
        name_similar_file(tmp_path / "b.png") == "; there is b.PNG"
        and name_similar_file(tmp_path / "A.jpg") == "; there is a.png"
    )
    assert name_similar_file(tmp_path / "d.png") == name_similar_file(tmp_path / "absent" / "a.png") == ""
