"""Which files belong together, and which folders are refused."""

import unicodedata
from pathlib import Path

import pytest

from rpe.data.folder_layout import LABEL_MAP, LABELME, OBJECT_MASKS, YOLO, find_pairs
from rpe.structures import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def shown(root: Path, split: str | None = None) -> tuple[str, list[tuple[str, str, list[str]]]]:
    folder, pairs = find_pairs(root, split)
    assert [pair.number for pair in pairs] == list(range(1, len(pairs) + 1))
    return folder.relative_to(root).as_posix(), [
        (
            pair.image.relative_to(folder).as_posix(),
            pair.form,
            [file.relative_to(root).as_posix() for file in pair.files],
        )
        for pair in pairs
    ]


@pytest.mark.parametrize(
    ("names", "split", "wanted"),
    [
        (
            ["images/a.jpg", "masks/a.tif", ".DS_Store", "masks/.x.png"],
            None,
            ("images", [("a.jpg", LABEL_MAP, ["masks/a.tif"])]),
        ),
        (
            ["Images/a.PNG", "Labels/a_label.png"],
            None,
            ("Images", [("a.PNG", LABEL_MAP, ["Labels/a_label.png"])]),
        ),
        (
            ["train/images/a.png", "train/masks/a.png"],
            "train",
            ("train/images", [("a.png", LABEL_MAP, ["train/masks/a.png"])]),
        ),
        (
            ["images/valid/a.png", "masks/valid/a_mask.png"],
            "val",
            ("images/valid", [("a.png", LABEL_MAP, ["masks/valid/a_mask.png"])]),
        ),
        (
            ["a.tif", "a_masks.png", "a_seg.npy", "a_cp_outlines.txt", "readme.txt"],
            None,
            (".", [("a.tif", LABEL_MAP, ["a_masks.png"])]),
        ),
        (["a_img.png", "a_masks.png", "info.json"], None, (".", [("a_img.png", LABEL_MAP, ["a_masks.png"])])),
        (["a.png", "a_cp_masks.tif"], None, (".", [("a.png", LABEL_MAP, ["a_cp_masks.tif"])])),
        (
            ["x/images/x.png", "x/masks/1.png", "x/masks/2.png"],
            None,
            (".", [("x/images/x.png", OBJECT_MASKS, ["x/masks/1.png", "x/masks/2.png"])]),
        ),
        (
            ["images/a.png", "masks/a/2.png", "masks/a/1.png"],
            None,
            ("images", [("a.png", OBJECT_MASKS, ["masks/a/1.png", "masks/a/2.png"])]),
        ),
        (
            ["images/train/a.jpg", "images/train/b.jpg", "labels/train/a.txt", "labels/train/classes.txt"],
            "train",
            ("images/train", [("a.jpg", YOLO, ["labels/train/a.txt"]), ("b.jpg", YOLO, [])]),
        ),
        (["a.jpg", "a.txt", "classes.txt"], None, (".", [("a.jpg", YOLO, ["a.txt"])])),
        (
            ["test/a.jpg", "test/a.json", "test/via.json"],
            "test",
            ("test", [("a.jpg", LABELME, ["test/a.json"])]),
        ),
        (["images/a.jpg", "images/a.json"], None, ("images", [("a.jpg", LABELME, ["images/a.json"])])),
        (["a.b.jpg", "a.b_masks.png"], None, (".", [("a.b.jpg", LABEL_MAP, ["a.b_masks.png"])])),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_layouts(tmp_path: Path, names: list[str], split: str | None, wanted: object) -> None:
    assert shown(touch(tmp_path, *names), split) == wanted


def test_names_compare_after_normalisation(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "zellkörper") for form in ("NFC", "NFD"))
    touch(tmp_path, f"images/{one}.png", f"masks/{other}.png")
    assert len(find_pairs(tmp_path, None)[1]) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["readme.md"], "data.root must hold images in .*; got no image. See conf/data/folder.yaml"),
        (["a.png", "b.png"], "got 2 images and none of these"),
        (["images/a.png", "masks/a.png", "masks/a.txt"], "got label map and YOLO text"),
        (
            ["images/a.png", "masks/a.png", "labels/a.txt"],
            "must hold one folder of images and one of masks for a split, got .*labels and .*masks",
        ),
        (
            ["images/a.png", "images/b.png", "masks/a.png"],
            r"image .*b.png must have its label map, got none in .*masks \(1 such\)",
        ),
        (
            ["images/a.png", "masks/a.png", "masks/c.png"],
            r"c.png must have an image of its name, got none \(1 such\)",
        ),
        (["images/a.png", "labels/a.txt", "labels/c.txt"], r"c.txt must have an image of its name"),
        (["a.png", "a_masks.png", "b_masks.png"], r"b_masks.png must have an image of its name"),
        (["images/a.png", "images/a.tif", "masks/a.png"], "must hold each image once, got a.png and a.tif"),
        (["images/a.png", "masks/a.png", "masks/a.tif"], "must have its label map once, got a.png and a.tif"),
        (["a.jpg", "b.jpg", "a.json"], r"image .*b.jpg must have its labelme JSON, got none"),
        (["x/images/x.png", "x/images/y.png", "x/masks/1.png"], "got 2 images and 1 masks"),
        (["x/images/x.png", "y/images/y.png", "y/masks/1.png"], "got 1 images and 0 masks"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_folders_that_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        find_pairs(touch(tmp_path, *names), None)
    assert "\n" not in str(refusal.value)
