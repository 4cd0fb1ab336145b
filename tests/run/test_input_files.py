"""Files, folders and patterns."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpe.run.input_files import count_other_files, image_files
from rpe.run.prediction_writer import PredictionWriter
from rpe.structures import UserError


def test_a_pattern_finds_no_answers(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    findings = PredictionWriter(tmp_path / "found", {"objects": True}, {})
    findings.write(
        "a",
        tmp_path / "a.png",
        {"labels": np.zeros((4, 4), dtype=np.uint16), "overlays": np.zeros((4, 4, 3), dtype=np.uint8)},
        [],
        (4, 4),
    )
    assert image_files(f"{tmp_path}/**/*.png") == [tmp_path / "a.png"]


def test_files_folders_and_nothing(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", ".hidden.png", "text.txt"):
        (tmp_path / name).touch()
    assert image_files(str(tmp_path)) == [tmp_path / "a.jpg", tmp_path / "b.png"]
    assert image_files(str(tmp_path / "text.txt")) == [tmp_path / "text.txt"], "what is named is tried"
    with pytest.raises(
        UserError,
        match="images must name at least one image, got .*Name a file, a folder of images, or a pattern",
    ):
        image_files(str(tmp_path / "*.tif"))


def test_what_is_left_out_of_a_folder_is_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("a.png", ".hidden", "b.czi", "c.czi", "d.txt", "README"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    assert count_other_files(str(tmp_path)) == "2 *.czi, 1 without suffix and 1 *.txt"
    assert count_other_files(str(tmp_path / "a.png")) == count_other_files(f"{tmp_path}/*.png") == ""
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        UserError,
        match=r"images must name at least one image, got .* .2 \*.czi, 1 without suffix and 1 \*.txt there.. Name a file",
    ):
        image_files(str(tmp_path))
