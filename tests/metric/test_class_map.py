"""Class maps as files: there and back, and what is refused of anybody's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpe.data.voc_mask import palette
from rpe.metric.class_map import class_png, find_maps, read_map, read_png
from rpe.structures import UserError


def test_there_and_back_in_vocs_colours(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 255, (7, 9))
    content = class_png(classes)
    (tmp_path / "x.png").write_bytes(content)
    assert (read_png(content) == classes).all() and (read_map(tmp_path / "x.png", (7, 9), 254) == classes).all()
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P" and (np.array(image.convert("RGB")) == palette()[classes]).all()
    Image.fromarray(classes.astype(np.uint8)).save(tmp_path / "grey.png")
    assert (read_map(tmp_path / "grey.png", (7, 9), 254) == classes).all()


def test_what_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((7, 9), 21, dtype=np.uint8)).save(tmp_path / "far.png")
    Image.fromarray(np.zeros((7, 9, 3), dtype=np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(UserError, match="far.png holds 21, but the data have the classes 0 .background. to 20; void is never predicted"):
        read_map(tmp_path / "far.png", (7, 9), 20)
    with pytest.raises(UserError, match="far.png is 7 x 9, but its image 9 x 7"):
        read_map(tmp_path / "far.png", (9, 7), 21)
    with pytest.raises(UserError, match="colours.png is RGB, not an 8-bit palette or grey image"):
        read_map(tmp_path / "colours.png", (7, 9), 20)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="text.png does not decode"):
        read_map(tmp_path / "text.png", (7, 9), 20)
    assert find_maps(tmp_path, {3: "far"}) == {3: tmp_path / "far.png"}
    with pytest.raises(UserError, match="a.png is missing .2 such."):
        find_maps(tmp_path, {3: "far", 4: "a", 5: "b"})
