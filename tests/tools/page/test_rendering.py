import base64
import io
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from made_sweep import picture
from PIL import Image

from rpe.tools.page import embed_file, embed_picture, render


def test_a_picture_is_shrunk_and_stands_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0, height=100, width=400))
    address = embed_file(tmp_path / "a.png", 200)
    assert address is not None and address.startswith("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).size == (200, 50)
    assert embed_picture(b"abc") == "data:image/png;base64,YWJj"


@pytest.mark.parametrize("content", [b"", b"text", picture(0)[:200]])
def test_what_is_no_picture_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert embed_file(tmp_path / "a.png", 100) is None and embed_file(tmp_path / "missing.png", 100) is None


def test_what_a_template_shows_must_be_given() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base.html")
    assert "&lt;a&gt;" in render("base.html", title="<a>") and "font:" in render("base.html", title="a")


def test_of_sixteen_bits_the_brightest_pixel_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 2000], [4000, 1000]], dtype=np.uint16).repeat(16, 0).repeat(16, 1)).save(
        tmp_path / "a.png"
    )
    address = embed_file(tmp_path / "a.png", 100)
    assert address is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert np.abs(shown[8::16, 8::16, 0].astype(int) - [[0, 127], [255, 63]]).max() <= 3


def test_a_picture_is_upright_as_predictions_on_it(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera held upright
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=turned)
    address = embed_file(tmp_path / "a.jpg", 100)
    assert address is not None and Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).size == (
        20,
        40,
    )
