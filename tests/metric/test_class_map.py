"""Class maps as files: written, read back, and refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpe.data.voc_mask import palette
from rpe.metric.class_map import class_png, find_maps, read_class_map, read_png
from rpe.structures import UserError


def test_there_and_back_in_vocs_colours(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 255, (7, 9))
    content = class_png(classes)
    (tmp_path / "x.png").write_bytes(content)
    assert (read_png(content) == classes).all() and (
        read_class_map(tmp_path / "x.png", (7, 9), 254) == classes
    ).all()
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P" and (np.array(image.convert("RGB")) == palette()[classes]).all()
    Image.fromarray(classes.astype(np.uint8)).save(tmp_path / "grey.png")
    assert (read_class_map(tmp_path / "grey.png", (7, 9), 254) == classes).all()


def test_what_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((7, 9), 21, dtype=np.uint8)).save(tmp_path / "far.png")
    Image.fromarray(np.zeros((7, 9, 3), dtype=np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(
        UserError,
        match="far.png must hold classes from 0 .background. to 20, got 21. Void cannot be predicted",
    ):
        read_class_map(tmp_path / "far.png", (7, 9), 20)
    with pytest.raises(UserError, match="far.png must be 9 x 7 .height x width. as its image, got 7 x 9"):
        read_class_map(tmp_path / "far.png", (9, 7), 21)
    with pytest.raises(UserError, match="colours.png must be an 8-bit palette or grey image, got mode RGB"):
        read_class_map(tmp_path / "colours.png", (7, 9), 20)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="text.png must decode"):
        read_class_map(tmp_path / "text.png", (7, 9), 20)
    assert find_maps(tmp_path, {3: "far"}) == {3: tmp_path / "far.png"}
    with pytest.raises(UserError, match="a.png must exist, got none .2 such."):
        find_maps(tmp_path, {3: "far", 4: "a", 5: "b"})


def palette_file(file: Path, colours: np.ndarray) -> Path:
    image = Image.fromarray((np.arange(63).reshape(7, 9) % 3).astype(np.uint8), mode="P")
    image.putpalette(colours.astype(np.uint8).ravel().tolist())
    image.save(file)
    return file


def test_a_palette_that_is_not_vocs_is_told_once_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greys = np.repeat(np.arange(256)[:, None], 3, axis=1)
    # beyond the indices that are used, colours mean nothing
    longer = np.where(np.arange(256)[:, None] < 3, palette(), 7)
    for number, colours in enumerate((palette(), greys, palette()[:3], longer)):
        read_class_map(palette_file(tmp_path / f"{number}.png", colours), (7, 9), 20)
    assert capsys.readouterr().err == ""
    quantized = np.array([[15, 15, 15], [6, 6, 6], [0, 0, 0]])  # of a grey map of the classes 15, 6 and 0
    cityscapes = np.array([[128, 64, 128], [244, 35, 232], [70, 70, 70]])
    for name, colours in (("a", quantized), ("b", cityscapes)):
        values = read_class_map(palette_file(tmp_path / f"{name}.png", colours), (7, 9), 20)
        assert set(np.unique(values)) == {0, 1, 2}
    warned = capsys.readouterr().err
    assert (
        warned.count("\n") == 1
        and "a.png has a palette that is not VOC's (index and colour: 0 (15, 15, 15), 1 (6, 6, 6), 2 (0, 0, 0))"
        in warned
    )


def test_a_map_with_another_suffix_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    with pytest.raises(UserError, match="a.png must exist, got none .1 such; there is a.tif."):
        find_maps(tmp_path, {1: "a"})
