import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from rpe.run.prediction_writer import PredictionWriter, list_objects
from rpe.segment import Instances
from rpe.structures import UserError

MADE = {"objects": True, "network": "abc", "tile": 512}


def found(labels: np.ndarray) -> Instances:
    count = int(labels.max())
    return Instances(labels.astype(np.int32), np.linspace(0.9, 0.5, count), np.zeros(count, dtype=np.int64))


def image(folder: Path, name: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(file)
    return file


def test_rows_tell_masks_areas_and_boxes() -> None:
    labels = np.zeros((6, 8), dtype=np.int32)
    labels[1:3, 2:7], labels[4:6, 0:2] = 1, 2
    rows = list_objects(Instances(labels, np.array([0.9, 0.5]), np.array([2, 1]), {17: "cat", 18: "dog"}))
    assert [(row["label"], row["category_id"], row["class"], row["area"], row["bbox"]) for row in rows] == [
        (1, 18, "dog", 10, [2, 1, 5, 2]),
        (2, 17, "cat", 4, [0, 4, 2, 2]),
    ]
    for row in rows:
        assert np.array_equal(coco_mask.decode(row["segmentation"]), labels == row["label"])
        assert coco_mask.toBbox(row["segmentation"]).tolist() == row["bbox"]
    assert list_objects(found(np.zeros((2, 2), dtype=np.int32))) == []


def test_more_objects_than_16_bits_count_are_refused() -> None:
    many = np.arange(1, 2**16 + 1, dtype=np.int32).reshape(256, 256)
    with pytest.raises(UserError, match="must be <= 65,535 for a 16-bit label map, got 65,536"):
        list_objects(found(many))
    kept = np.where(many == 2**16, 0, many).astype(np.int32)
    assert len(list_objects(found(kept))) == 65535


def test_files_of_one_stem_have_names_of_their_own_and_keep_them(tmp_path: Path) -> None:
    files = [image(tmp_path, name) for name in ("a.jpg", "a.png", "b/A.png", "ö ß.png")]
    (tmp_path / "out").mkdir()
    findings = PredictionWriter(tmp_path / "out", MADE, {})
    names = findings.name_images(files)
    assert list(names.values()) == files and list(names) == ["a_jpg", "a_png", "A_png_2", "ö ß"]
    findings.write("a_png", files[1], {"labels": np.zeros((6, 8), dtype=np.uint16)}, [], (6, 8))
    again = PredictionWriter(tmp_path / "out", MADE, {})
    assert (
        list(again.name_images(files[1:2])) == ["a_png"]
        and again.is_done("a_png", files[1])
        and not again.is_done("a_jpg", files[0])
    )
    assert list(again.name_images([image(tmp_path, "c/a_png.bmp")])) == ["a_png_2"]
    image(tmp_path, "a.png")
    assert not again.is_done("a_png", files[1]), "another file by now"


def test_the_tables_hold_what_is_done(tmp_path: Path) -> None:
    files = [image(tmp_path, name) for name in ("z.png", "y.png", "x.png")]
    (tmp_path / "out").mkdir()
    findings = PredictionWriter(tmp_path / "out", MADE, {"run": "weights/nuclei"})
    findings.write_tables()
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []
    labels = np.zeros((6, 8), dtype=np.int32)
    labels[0, 0], labels[2:4, 2:4] = 1, 2
    for file in files[:2]:
        findings.write(
            file.stem, file, {"labels": labels.astype(np.uint16)}, list_objects(found(labels)), (6, 8)
        )
    # killed here: nothing but the images' own files is there, and the next start makes the tables of them
    PredictionWriter(tmp_path / "out", MADE, {"run": "weights/nuclei"}).write_tables()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["image_id"], row["category_id"], row["area"], row["score"]) for row in results] == [
        (1, 1, 1, 0.9),
        (1, 1, 4, 0.5),
        (2, 1, 1, 0.9),
        (2, 1, 4, 0.5),
    ]
    table = list(csv.DictReader((tmp_path / "out" / "objects.csv").open()))
    assert table[1] == dict(
        image="y", label="2", score="0.5", area="4", left="2", top="2", width="2", height="2", **{"class": ""}
    )
    about = yaml.safe_load((tmp_path / "out" / "predictions.yaml").read_text())
    assert (
        about["images"] == {"y": str(files[1]), "z": str(files[0])}
        and about["image_ids"] == {1: "y", 2: "z"}
        and about["run"] == "weights/nuclei"
    )
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "labels" / "z.png")), labels) and not list(
        (tmp_path / "out").rglob("*.partial")
    )


def test_a_folder_holds_answers_of_one_kind(tmp_path: Path) -> None:
    before = PredictionWriter(tmp_path, MADE, {})
    file = image(tmp_path / "images", "a.png")
    before.write("a", file, {"labels": np.zeros((6, 8), dtype=np.uint16)}, [], (6, 8))
    with pytest.raises(
        UserError, match="output must be another folder, got .* its prediction has other network and tile"
    ):
        PredictionWriter(tmp_path, {**MADE, "network": "def", "tile": None}, {})


def test_names_that_no_file_can_have_are_shortened_and_made_printable(tmp_path: Path) -> None:
    long = ["a" * 245, "a" * 244 + "b", "ö" * 120 + "é"]
    files = [image(tmp_path, f"{stem}.png") for stem in long] + [
        image(tmp_path, os.fsdecode(name)) for name in (b"caf\xe9.png", b"caf\xe8.png")
    ]
    for _ in range(2):
        findings = PredictionWriter(tmp_path / "out", MADE, {})
        names = findings.name_images(files)
        assert list(names.values()) == files and all(
            findings.is_done(name, file) == bool(findings.images) for name, file in names.items()
        )
        for name, file in names.items():
            findings.write(name, file, {"labels": np.zeros((6, 8), dtype=np.uint16)}, [], (6, 8))
        findings.write_tables()
    assert {name.encode() for name in list(names)[3:]} == {"caf�".encode(), "caf�_2".encode()}
    sources = yaml.safe_load((tmp_path / "out" / "predictions.yaml").read_text())["images"]
    assert sources["caf�"].endswith(r"caf\xe9.png") and len(sources) == 5


def test_a_folder_without_an_answer_takes_any_settings(tmp_path: Path) -> None:
    PredictionWriter(tmp_path, MADE, {})
    PredictionWriter(tmp_path, {**MADE, "tile": 64}, {})
    assert yaml.safe_load((tmp_path / "predictions.yaml").read_text())["made"]["tile"] == 64


@pytest.mark.parametrize(
    ("files", "rows"),
    [
        (("c.png", "a.png", "b.png"), [(1, "a.png"), (2, "b.png"), (3, "c.png")]),
        (("y/1.png", "x/1.png", "x/2.png"), [(1, "x/1.png"), (2, "x/2.png"), (3, "y/1.png")]),
        (("val/y/1.png", "val/y/2.png"), [(1, "1.png"), (2, "2.png")]),
        (("a.png", "a-b.png", "a_b.png"), [(1, "a-b.png"), (2, "a.png"), (3, "a_b.png")]),
        (("a.png", "a.jpg"), [(1, "a.jpg"), (2, "a.png")]),
        (("one.png",), [(1, "one.png")]),
    ],
)
def test_rows_name_the_file_and_number_files_in_their_order(
    tmp_path: Path, files: tuple[str, ...], rows: list[tuple[int, str]]
) -> None:
    (tmp_path / "out").mkdir()
    findings = PredictionWriter(tmp_path / "out", MADE, {})
    labels = np.ones((6, 8), dtype=np.int32)
    for name, file in findings.name_images([image(tmp_path / "images", file) for file in files]).items():
        findings.write(name, file, {}, list_objects(found(labels)), (6, 8))
    findings.write_tables()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sorted((row["image_id"], row["file_name"]) for row in results) == rows and findings.objects == len(
        rows
    )
    about = yaml.safe_load((tmp_path / "out" / "predictions.yaml").read_text())
    assert {number: Path(about["images"][name]).name for number, name in about["image_ids"].items()} == {
        n: Path(f).name for n, f in rows
    }
