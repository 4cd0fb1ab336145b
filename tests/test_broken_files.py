"""The readers of images, masks, maps and MATLAB files on thousands of broken files: one line each, no other error, no hang."""

import io as streams
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from miniature_voc import voc_colours
from PIL import Image
from scipy import io, sparse

from rpe.data.bsds import read_drawings
from rpe.data.image import lift_pixel_limit, read_header, read_image
from rpe.data.sbd import check_file, read_fields
from rpe.data.voc_mask import read_mask
from rpe.metric.boundary.reading import read_prediction
from rpe.metric.class_map import read_class_map
from rpe.structures import UserError

TRIES = 200
"""Broken forms of each file."""

SECONDS = 5.0
"""More for one small file is a hang."""

SIZE = (12, 16)
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 255, SIZE, dtype=np.uint8)
COLOUR = RANDOM.integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def deep_png(pixels: np.ndarray) -> bytes:
    """16 bits a channel, which Pillow does not write."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    colour_type = {2: 4, 3: 2, 4: 6}[channels]
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pillow(pixels: np.ndarray, form: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = streams.BytesIO()
    Image.fromarray(pixels).save(stream, form, exif=exif, **options)
    return stream.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = streams.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def palette_png() -> bytes:
    image, stream = Image.fromarray(GREY % 21, mode="P"), streams.BytesIO()
    image.putpalette(voc_colours())
    image.save(stream, "PNG")
    return stream.getvalue()


def mat(compressed: bool = False, **content: object) -> bytes:
    stream = streams.BytesIO()
    io.savemat(stream, content, do_compression=compressed)
    return stream.getvalue()


def people(kind: str) -> np.ndarray:
    one = {
        "Segmentation": (GREY > 99).astype(np.uint16),
        "Boundaries": sparse.csc_matrix(GREY > 200) if kind == "sparse" else GREY > 200,
    }
    if kind == "structs":
        return np.array([tuple(one.values())] * 2, dtype=[(name, object) for name in one])
    return np.array([one, one], dtype=object)


def classes() -> dict[str, object]:
    return {"GTinst": {"Segmentation": GREY % 3, "Categories": np.array([1, 2]), "Boundaries": np.array([1])}}


def anything(file: Path) -> None:
    read_header(file)
    with lift_pixel_limit():
        read_image(file, (1.0, 99.8))


def of_sbd(file: Path) -> None:
    check_file(file)
    read_fields(file, "GTinst", "Segmentation", "Categories")


FILES: dict[str, tuple[Callable[[], bytes], Callable[[Path], object]]] = {
    "grey.png": (lambda: pillow(GREY, "PNG"), anything),
    "colour.png": (lambda: pillow(COLOUR, "PNG"), anything),
    "deep.png": (lambda: deep_png(COLOUR.astype(np.uint16) * 200), anything),
    "alpha.png": (
        lambda: deep_png(np.dstack([COLOUR.astype(np.uint16) * 200, np.full(SIZE, 65535)])),
        anything,
    ),
    "colour.jpg": (lambda: pillow(COLOUR, "JPEG"), anything),
    "progressive.jpg": (lambda: pillow(COLOUR, "JPEG", progressive=True), anything),
    "colour.webp": (lambda: pillow(COLOUR, "WEBP"), anything),
    "colour.gif": (lambda: pillow(GREY, "GIF"), anything),
    "colour.tif": (lambda: tiff(COLOUR, photometric="rgb"), anything),
    "deep.tif": (
        lambda: tiff(COLOUR.astype(np.uint16) * 200, photometric="rgb", compression="zlib", predictor=True),
        anything,
    ),
    "tiles.tif": (
        lambda: tiff(COLOUR.astype(np.uint16), photometric="rgb", tile=(16, 16), compression="zlib"),
        anything,
    ),
    "grey.tif": (lambda: tiff(GREY.astype(np.uint16) * 200), anything),
    "imagej.tif": (lambda: tiff(GREY, imagej=True), anything),
    "big.tif": (lambda: tiff(GREY.astype(np.int16), bigtiff=True), anything),
    "five.tif": (
        lambda: tiff(np.dstack([COLOUR, GREY, GREY]), photometric="minisblack", planarconfig="contig"),
        anything,
    ),
    "lzw.tif": (lambda: pillow(COLOUR, "TIFF", compression="tiff_lzw"), anything),
    "mask.png": (palette_png, read_mask),
    "classes.png": (palette_png, lambda file: read_class_map(file, SIZE, 20)),
    "boundaries.png": (lambda: pillow(GREY, "PNG"), lambda file: read_prediction(file, SIZE)),
    "map.mat": (lambda: mat(map=GREY / 255), lambda file: read_prediction(file, SIZE)),
    "segs.mat": (
        lambda: mat(segs=np.array([GREY, None], dtype=object)[:1]),
        lambda file: read_prediction(file, SIZE),
    ),
    "cells.mat": (lambda: mat(groundTruth=people("cells")), read_drawings),
    "structs.mat": (lambda: mat(groundTruth=people("structs")), read_drawings),
    "sparse.mat": (lambda: mat(groundTruth=people("sparse")), read_drawings),
    "packed.mat": (lambda: mat(compressed=True, groundTruth=people("cells")), read_drawings),
    "inst.mat": (lambda: mat(compressed=True, **classes()), of_sbd),
    "map.npy": (lambda: npy(GREY / 255), lambda file: read_prediction(file, SIZE)),
}


def npy(values: np.ndarray) -> bytes:
    stream = streams.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def broken(whole: bytes, random: np.random.Generator) -> Iterator[bytes]:
    """Cut at any place; with single bytes changed, half of them in the first 300, where the structure lies; with a part doubled or zeroed."""
    for number in range(TRIES):
        content = bytearray(whole)
        if number % 5 == 0:
            del content[int(random.integers(len(whole))) :]
        elif number % 5 < 4:
            for place in random.integers(
                min(len(whole), 300) if number % 2 else len(whole), size=int(random.integers(1, 6))
            ):
                content[int(place)] = int(random.choice([0, 1, 255, int(random.integers(256))]))
        else:
            start, end = sorted(int(place) for place in random.integers(len(whole), size=2))
            content[start:end] = bytes(end - start) if number % 2 else content[start:end] * 2
        yield bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_one_line(tmp_path: Path, name: str) -> None:
    write, read = FILES[name]
    whole, file = write(), tmp_path / name
    file.write_bytes(whole)
    random = np.random.default_rng(list(name.encode()))
    refused, slowest = 0, 0.0
    if "five" not in name:
        read(file)
    for content in broken(whole, random):
        file.write_bytes(content)
        started = time.monotonic()
        try:
            read(file)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(file) in str(error)
        slowest = max(slowest, time.monotonic() - started)
    assert refused > TRIES / 10 and slowest < SECONDS
