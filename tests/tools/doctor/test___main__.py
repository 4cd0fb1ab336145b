"""The page on good sets and on broken ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scene_forms
from bsds_miniature import write_bsds
from miniature import write_miniature
from PIL import Image

from rpe.structures import UserError
from rpe.tools.doctor.__main__ import configure, main


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def page(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(list(arguments))
    return status, " ".join(capsys.readouterr().out.split())


def test_a_good_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_miniature(tmp_path / "a folder = (1)")
    status, said = page(capsys, "data=coco", f"data.root={root}", "data.crop=40", "output=sheet.png")
    assert status == 0
    for wanted in (
        "│ objects │ 9 │ 9 │",
        "│ .. an image │ 0 / 3 / 3 │",
        "│ crowds │ 1 │ 1 │",
        "hold more than 2 D = 64",
        "categories (2; train / val) box: 6 / 6 brick: 3 / 3",
        "test: it is val, which stands in for it",
        "would be refused nothing was found",
    ):
        assert wanted in said, (wanted, said)
    assert Image.open(tmp_path / "sheet.png").width == 1500


def break_annotations(root: Path) -> None:
    """A placeholder as area, an object drawn twice, an image in both splits and one nobody annotated."""
    file = root / "annotations" / "instances_train2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["area"] = 1.0
    truth["annotations"].append(truth["annotations"][3] | {"id": 99})
    file.write_text(json.dumps(truth))
    first = root / "train2017" / "000000000001.png"
    shutil.copy(first, root / "val2017" / "000000000101.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(root / "train2017" / "other.png")


def test_annotations_that_train_but_are_not_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_miniature(tmp_path / "mini")
    break_annotations(root)
    status, said = page(capsys, "data=coco", f"data.root={root}", "data.crop=40")
    assert status == 0
    for wanted in (
        "train: 1 annotations whose area field is far from their mask: 1",
        "train: 1 pairs of masks in an image with IoU 0.9 or more (drawn twice?): 4 and 99 (image 2)",
        "train: 1 images that are not annotated: other.png",
        "1 images that are in two splits: 000000000001.png (train) and 000000000101.png (val)",
    ):
        assert wanted in said, (wanted, said)


def test_files_that_would_be_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_miniature(tmp_path / "mini")
    broken = root / "train2017" / "000000000002.png"
    broken.write_bytes(broken.read_bytes()[:500])
    (root / "val2017" / "000000000103.png").unlink()
    status, said = page(capsys, "data=coco", f"data.root={root}", "data.crop=40")
    assert (
        status == 1
        and "val, test: image" in said
        and "must exist, as it is annotated" in said
        and "000000000002.png must decode" in said
    )
    assert "│ objects │ 9 │ 9 │" in said, "annotations are told without their images"


def test_masks_of_kinds_are_told_from_masks_of_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        labels = np.zeros((40, 40), dtype=np.uint8)
        labels[2:10, 2:10] = labels[20:30, 5:15] = 1
        labels[2:10, 20:30] = labels[25:30, 25:30] = 2
        scene_forms.save(tmp_path / "set" / "images" / f"{number}.png", labels * 90 + number)
        scene_forms.save(tmp_path / "set" / "masks" / f"{number}.png", labels)
    status, said = page(capsys, "data=folder", f"data.root={tmp_path / 'set'}", "data.crop=32")
    assert (
        status == 0
        and "val: 100% of the objects lie in several parts: do the masks separate objects, or only classes?"
        in said
    )


def test_boundaries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = page(capsys, "data=bsds", f"data.root={write_bsds(tmp_path / 'bsds')}", "data.crop=32")
    assert (
        status == 0
        and "people an image" in said
        and "boundary pixels" in said
        and "hold more than 2 D = 6" in said
    )


def test_an_experiment_brings_dimension_and_margin() -> None:
    assert (
        configure(["data=nuclei"]).embedding.dimension
        == configure(["experiment=nuclei"]).embedding.dimension
        == 16
    )
    assert (
        configure(["data=folder"]).data.name == "folder"
        and configure(["data=folder"]).embedding.dimension == 32
    )
    assert (
        configure(["data=folder", "experiment=nuclei", "loss.pairwise.margin=0.3"]).loss.pairwise.margin
        == 0.3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "data must be given, got none"),
        (["data=nothing"], "data/nothing"),
        (["data=coco", "samples=0"], "samples must be an integer >= 1, got 0"),
        (["data=coco", "data.crop=abc"], "data.crop must be an integer"),
    ],
)
def test_slips(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments)
