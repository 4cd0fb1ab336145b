"""Pixels that Pillow would silently drop are read in full, or their file is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_broken_files import deep_png

from rpe.data.image import read_header, read_image
from rpe.data.pixels import decode_image, read_tiff
from rpe.structures import UserError

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(1, 255, (12, 16, 5), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (12, 16, 4)).astype(np.uint16)
OPAQUE = np.dstack([DEEP[..., :3], np.full((12, 16), 65535, dtype=np.uint16)])


def written(file: Path, values: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(file, values, **options)
    return file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "byteorder": ">"},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib"},
        {"rowsperstrip": 3},
        {"planarconfig": "separate"},
        {"bigtiff": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_are_read_in_full(tmp_path: Path, options: dict, channels: int) -> None:
    values = DEEP[..., :3] if channels == 3 else OPAQUE
    stored = np.moveaxis(values, -1, 0).copy() if "planarconfig" in options else values
    alpha = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    file = written(tmp_path / "a.tif", stored, photometric="rgb", **options, **alpha)
    assert np.array_equal(read_tiff(file), values[..., :3])


@pytest.mark.parametrize("channels", [3, 4])
def test_png_colours_of_16_bits_are_read_in_full(tmp_path: Path, channels: int) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(deep_png(DEEP[..., :3] if channels == 3 else OPAQUE))
    with Image.open(file) as image:
        assert np.array_equal(decode_image(image, file), DEEP[..., :3])


def test_a_cameras_ten_bits_look_alike_grey_and_in_colours(tmp_path: Path) -> None:
    grey = RANDOM.integers(600, 710, (12, 16)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.tif", compression="tiff_lzw")
    written(tmp_path / "colour.tif", np.dstack([grey] * 3), photometric="rgb")
    written(tmp_path / "channels.tif", np.dstack([grey] * 3), photometric="minisblack", planarconfig="contig")
    (tmp_path / "colour.png").write_bytes(deep_png(np.dstack([grey] * 3)))
    for percentiles in (None, (1.0, 99.8)):
        expected = read_image(tmp_path / "grey.tif", percentiles)
        assert percentiles is None or len(expected.unique()) > 80
        for name in ("colour.tif", "channels.tif", "colour.png"):
            # three values a pixel instead of one move a percentile by part of a level
            differences = (read_image(tmp_path / name, percentiles).int() - expected.int()).abs()
            assert int(differences.max()) <= (0 if percentiles is None else 1), name


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            BYTES[..., :2],
            {"photometric": "minisblack", "planarconfig": "contig"},
            r"got 2 channels \(uint8\[height, width, 2\]\)",
        ),
        (
            np.moveaxis(BYTES[..., :2], -1, 0),
            {"photometric": "minisblack", "planarconfig": "separate"},
            "got 2 channels",
        ),
        (BYTES[..., :4], {"photometric": "rgb", "extrasamples": [0]}, "got 4 channels"),
        (BYTES, {"photometric": "rgb"}, "got 5 channels"),
        (BYTES, {"photometric": "minisblack", "planarconfig": "contig"}, "got 5 channels"),
        (DEEP[..., :2], {"photometric": "minisblack", "planarconfig": "contig"}, r"got 2 channels \(uint16"),
        (
            BYTES[..., :4],
            {"photometric": "rgb", "extrasamples": [2]},
            "be opaque, got an alpha channel that hides 192 of 192 pixels",
        ),
        (
            DEEP,
            {"photometric": "rgb", "extrasamples": [2]},
            "be opaque, got an alpha channel that hides 192 of 192 pixels",
        ),
        (
            BYTES[..., :2],
            {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [2]},
            "be opaque, got an alpha channel that hides",
        ),
        (BYTES[..., 0].astype(np.int8), {}, "got int8 values from -"),
        (-DEEP[..., 0].astype(np.int32) - 1, {}, "got int32 values from -"),
        (DEEP[..., 0].astype(np.uint32) << 16, {}, "got uint32 values from"),
        (BYTES[..., 0] / 255, {}, "got float64 values from"),
        ((BYTES[..., :3] / 255).astype(np.float32), {"photometric": "rgb"}, "got float32 values from"),
        ((BYTES[..., 0] / 255).astype(np.float16), {}, "got float16 values from"),
        (BYTES[..., 0].astype(np.complex64), {}, "got complex64 values"),
        (np.moveaxis(BYTES, -1, 0), {"photometric": "minisblack"}, "got 5 pages"),
        (
            np.moveaxis(BYTES, -1, 0),
            {"photometric": "minisblack", "volumetric": True, "tile": (5, 16, 16)},
            "got 5 pages",
        ),
        (np.moveaxis(BYTES, -1, 0), {"imagej": True, "metadata": {"axes": "ZYX"}}, "got 5 pages"),
        (np.moveaxis(BYTES[..., :2], -1, 0), {"imagej": True, "metadata": {"axes": "CYX"}}, "got 2 pages"),
    ],
)
def test_a_tiff_file_of_which_something_would_be_lost_is_refused(
    tmp_path: Path, values: np.ndarray, options: dict, message: str
) -> None:
    file = written(tmp_path / "a.tif", values.copy(), **options)
    with pytest.raises(UserError, match=f"a.tif must .*{message}") as refusal:
        read_image(file)
    assert "\n" not in str(refusal.value)


def test_dark_can_be_the_largest_value(tmp_path: Path) -> None:
    white = written(tmp_path / "white.tif", DEEP[..., 0], photometric="miniswhite")
    assert np.array_equal(read_tiff(white), 65535 - DEEP[..., 0])
    eight = written(tmp_path / "eight.tif", BYTES[..., 0], photometric="miniswhite")
    assert np.array_equal(read_tiff(eight), 255 - BYTES[..., 0])


def test_alpha_is_dropped_where_it_hides_nothing(tmp_path: Path) -> None:
    colours = BYTES[..., :3]
    for name, alpha in (("opaque.png", 255), ("hidden.png", 0)):
        mask = np.full((12, 16), 255, dtype=np.uint8)
        mask[:3] = alpha
        Image.fromarray(np.dstack([colours, mask])).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / "opaque.png").permute(1, 2, 0).numpy(), colours)
    palette = Image.fromarray(colours).quantize(8)
    palette.save(tmp_path / "hidden.gif", transparency=int(np.array(palette)[0, 0]))
    (tmp_path / "deep.png").write_bytes(deep_png(DEEP))
    for name in ("hidden.png", "hidden.gif", "deep.png"):
        with pytest.raises(
            UserError,
            match=rf"{name} must be opaque, got an alpha channel that hides \d+ of 192 pixels. Flatten it",
        ):
            read_image(tmp_path / name)
    (tmp_path / "grey.png").write_bytes(deep_png(DEEP[..., :2]))
    with pytest.raises(
        UserError, match="grey.png must be RGB PNG or TIFF if it has more than 8 bits a channel"
    ):
        read_image(tmp_path / "grey.png")


def test_a_portable_map_of_16_bits_in_colours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n16 12\n1023\n" + (DEEP[..., :3] % 1024).astype(">u2").tobytes())
    with pytest.raises(
        UserError, match="a.ppm must be RGB PNG or TIFF if it has more than 8 bits a channel, got RGB as PPM"
    ):
        read_image(tmp_path / "a.ppm")


def test_a_header_that_tells_too_many_pixels(tmp_path: Path) -> None:
    file = written(tmp_path / "a.tif", BYTES[..., 0])
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tiff:
        places = [tiff.pages[0].tags[name].offset for name in ("ImageWidth", "ImageLength")]
    for place in places:  # a number of four bytes
        content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 10**6)
    file.write_bytes(content)
    for read in (read_header, read_image):
        with pytest.raises(
            UserError,
            match="a.tif (must have a header .* got 1000000 x 1000000 pixels|must have at most .* got 1000000 x 1000000)",
        ):
            read(file)
