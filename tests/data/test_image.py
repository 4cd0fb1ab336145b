import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from rpe.data.image import (
    LEAST_RANGE,
    Reader,
    check_percentile_range,
    check_sides,
    decode,
    describe_fault,
    lift_pixel_limit,
    open_image,
    read_header,
    read_image,
    stretch_intensities,
)
from rpe.data.pixels import check_single
from rpe.structures import UserError


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_absent_and_no_image(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(file)
    assert decode(open_image(file), file).shape == (40, 50, 3) and read_image(file).shape == (3, 40, 50)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"a.{suffix} must decode"):
        read_image(file)
    for content in (b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"a.{suffix} must decode"):
            open_image(file)
    for read in (open_image, read_image, read_header):
        with pytest.raises(UserError, match="b.png must exist, got none"):
            read(tmp_path / "b.png")


def test_stretched_percentiles_become_black_and_white_alike_in_all_channels() -> None:
    ramp = torch.arange(50, 151, dtype=torch.uint8).repeat(3, 1)[:, None]
    out = stretch_intensities(ramp, (10.0, 90.0))
    assert out.dtype == torch.uint8 and out[0, 0, 10] == 0 and out[0, 0, 90] == 255 and out[0, 0, 50] == 128
    assert (out[:, 0, :10] == 0).all() and (out[:, 0, 91:] == 255).all() and torch.equal(out[0], out[2])


def test_noise_of_a_flat_image_is_not_blown_up() -> None:
    flat = torch.full((3, 10, 10), 20, dtype=torch.uint8)
    flat[:, ::2] += 1
    out = stretch_intensities(flat, (1.0, 99.0))
    assert int(out.max()) - int(out.min()) == round(255 / LEAST_RANGE)


@pytest.mark.parametrize("percentiles", [[1.0], [99.0, 1.0], [-1.0, 50.0], [5.0, 101.0]])
def test_percentiles_must_be_a_pair_in_order(percentiles: list[float]) -> None:
    with pytest.raises(UserError, match=r"data.percentile_range must be two ascending percentiles, got"):
        check_percentile_range(percentiles)


def deep(file: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(file)
    return file


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    file = deep(tmp_path / f"deep.{suffix}", values)
    pixels = read_image(file)
    assert pixels.shape == (3, 6, 8) and (pixels.numpy() == np.rint(values / 257).astype(np.uint8)).all()
    assert (decode(open_image(file), file) == values).all()


def test_a_cameras_twelve_bits_are_stretched_before_they_become_eight(tmp_path: Path) -> None:
    ramp = np.arange(600, 1601, dtype=np.uint16)[None].repeat(2, 0)
    out = read_image(deep(tmp_path / "camera.png", ramp), (10.0, 90.0))
    assert (
        out.shape == (3, 2, 1001)
        and len(out.unique()) == 256
        and out[0, 0, 100] == 0
        and out[0, 0, 500] == 128
        and out[2, 1, 900] == 255
    )
    flat = np.full((10, 10), 1000, dtype=np.uint16)
    flat[::2] += 2
    noise = read_image(deep(tmp_path / "camera.png", flat), (1.0, 99.0))
    assert int(noise.max()) - int(noise.min()) < 40, "noise is not blown up"
    eight = np.arange(50, 151, dtype=np.uint8)[None].repeat(2, 0)
    expected = stretch_intensities(torch.from_numpy(eight)[None].repeat(3, 1, 1), (1.0, 99.0))
    assert torch.equal(read_image(deep(tmp_path / "camera.png", eight), (1.0, 99.0)), expected)


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 4), 0.5, dtype=np.float32),
        np.full((4, 4), 70000, dtype=np.int32),
        np.full((4, 4), -1, dtype=np.int32),
    ],
)
def test_values_whose_white_nobody_knows_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    file = deep(tmp_path / "deep.tif", values)
    for percentiles in (None, (1.0, 99.0)):
        with pytest.raises(
            UserError, match=r"deep.tif must have integers of 8 or 16 bits, got (float32|int32) values from"
        ):
            read_image(file, percentiles)


def turned_file(file: Path, pixels: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, exif=exif, **({"lossless": True} if file.suffix == ".webp" else {}))
    return file


@pytest.mark.parametrize("form", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_turned_as_pillow_turns_them_and_as_the_annotated_size_demands(
    tmp_path: Path, form: str, orientation: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    file = turned_file(tmp_path / f"a.{form}", pixels, orientation)
    with Image.open(file) as image:
        upright = np.array(
            ImageOps.exif_transpose(image.convert("RGB") if form != "tif" else image)
        ).transpose(2, 0, 1)
    stored = np.array(Image.open(file)) if form == "jpg" else pixels
    header = read_header(file)
    assert (
        header.stored == (6, 9) and header.orientation == orientation and header.upright == upright.shape[1:]
    )
    assert (read_image(file).numpy() == upright).all() and (
        read_image(file, None, header.upright).numpy() == upright
    ).all()
    if orientation >= 5:
        assert (read_image(file, None, (6, 9)).numpy() == stored.transpose(2, 0, 1)).all(), (
            "masks drawn on the stored pixels"
        )
        with pytest.raises(
            UserError,
            match=rf"a.{form} must be 5 x 9 .* as annotated, got 6 x 9 .9 x 6 when its EXIF orientation {orientation} is",
        ):
            read_image(file, None, (5, 9))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_size_that_does_not_tell_is_told_once_a_folder(
    tmp_path: Path, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9), dtype=np.uint8)
    files = [turned_file(tmp_path / f"{name}.png", pixels, orientation) for name in "ab"]
    for file in files:
        assert (
            read_image(file, None, (9, 9))[0].numpy() == np.array(ImageOps.exif_transpose(Image.open(file)))
        ).all()
    warning = capsys.readouterr().err
    assert (
        warning.count("\n") == 1
        and f"a.png has the EXIF orientation {orientation}" in warning
        and "turned upright" in warning
    )


def test_a_broken_exif_block_is_no_broken_image(tmp_path: Path) -> None:
    Image.new("RGB", (4, 5)).save(tmp_path / "a.jpg", exif=b"Exif\0\0nothing of the kind")
    assert read_image(tmp_path / "a.jpg").shape == (3, 5, 4)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (np.zeros((20, 20)), "constant, all values are 0 of 255"),
        (np.full((20, 20), 255), "constant, all values are 255"),
        (
            np.where(np.arange(400).reshape(20, 20) == 7, 200, 3),
            "nearly empty, 99.8% of its pixels have one value",
        ),
        (np.arange(400).reshape(20, 20) % 4 + 2, "nearly constant, its values lie from 2 to 5"),
        (
            np.arange(400).reshape(20, 20).clip(0, 250),
            "saturated or with a white background, 38% of its pixels have the largest value 250",
        ),
        (np.arange(400).reshape(20, 20) % 250, None),
        (np.arange(400).reshape(20, 20).clip(150, 400) - 150, None),
    ],
)
def test_an_image_that_may_show_nothing_is_told(values: np.ndarray, fault: str | None) -> None:
    found = describe_fault(torch.from_numpy(values.clip(0, 255).astype(np.uint8))[None].repeat(3, 1, 1))
    assert found is None if fault is None else found is not None and fault in found


def test_sides() -> None:
    check_sides(None, 1)
    with pytest.raises(UserError, match=r"data.longest_side must be >= 1 in pixels, got 0"):
        check_sides(0, 8)


def test_a_text_that_unpacks_without_end_is_a_broken_image(tmp_path: Path) -> None:
    text, file = PngInfo(), tmp_path / "bomb.png"
    text.add_text("comment", "a" * 3_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(file, pnginfo=text)
    with pytest.raises(UserError, match="bomb.png must decode"):
        read_image(file)


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)]
    for name, rest in (("one", []), ("three", pages[1:])):
        pages[0].save(tmp_path / f"{name}.{suffix}", save_all=True, append_images=rest)
    with open_image(tmp_path / f"one.{suffix}") as image:
        check_single(image, tmp_path)
    for read in (read_header, read_image):
        with pytest.raises(UserError, match="must have one page, got 3 pages"):
            read(tmp_path / f"three.{suffix}")
    with (
        open_image(tmp_path / f"three.{suffix}") as image,
        pytest.raises(UserError, match="must have one page, got 3 pages. Save them as separate files"),
    ):
        check_single(image, tmp_path)


def test_any_size_is_read_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="must be smaller, got"):
        open_image(tmp_path / "a.png")
    with lift_pixel_limit(), open_image(tmp_path / "a.png") as image:
        assert image.size == (30, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_stretching_takes_a_few_bytes_a_pixel() -> None:
    image = torch.randint(0, 256, (3, 1000, 1000), dtype=torch.uint8)
    tracemalloc.start()
    with torch.profiler.profile(profile_memory=True) as profile:
        stretch_intensities(image, (1.0, 99.0))
    of_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    of_torch = max(event.cpu_memory_usage for event in profile.events())
    assert of_numpy < 3.5 * image.numel() and of_torch < image.numel()


@pytest.mark.parametrize("percentile_range", [None, (1.0, 99.0)])
def test_arrays_are_read_as_files_of_the_same_pixels(
    tmp_path: Path, percentile_range: tuple[float, float] | None
) -> None:
    reader, random = Reader(None, percentile_range), np.random.default_rng(0)
    colour = random.integers(20, 180, size=(30, 40, 3), dtype=np.uint8)
    deep = random.integers(0, 4096, size=(30, 40), dtype=np.uint16)
    for number, pixels in enumerate((colour, colour[..., 0], deep)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        assert torch.equal(reader.read(pixels), reader.read(tmp_path / f"{number}.png")), number
    assert torch.equal(reader.read(np.stack([deep] * 3, -1)), reader.read(deep)) and torch.equal(
        reader.read(deep.astype(">u2")), reader.read(deep)
    )
    # from 0 to 1 in steps of 1/255, the intensities of the bytes
    assert (reader.read(colour / 255).int() - reader.read(colour).int()).abs().max() <= (
        percentile_range is not None
    )


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((4, 5, 4), dtype=np.uint8),
            r"image must be .height, width. or .height, width, 3., got .4, 5, 4.",
        ),
        (np.zeros((0, 5), dtype=np.uint8), "got .0, 5."),
        (np.zeros(5, dtype=np.uint8), "got .5."),
        (np.full((4, 5), 255.0), r"image must lie in \[0, 1\] if it is floating-point, got 255 to 255"),
        (np.full((4, 5), np.nan), "got nan to nan"),
        (np.zeros((4, 5), dtype=np.int64), "image must be uint8, uint16 or floating-point, got int64"),
        (np.zeros((4, 5), dtype=bool), "got bool"),
    ],
)
def test_arrays_that_are_no_images_are_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Reader(None, None).read(pixels)


@pytest.mark.parametrize("form", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pillow_images_are_upright_as_their_files_before_and_after_they_are_decoded(
    tmp_path: Path, form: str, orientation: int
) -> None:
    file = turned_file(
        tmp_path / f"a.{form}",
        np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8),
        orientation,
    )
    reader = Reader()
    wanted = reader.read(file)
    with Image.open(file) as image, Image.open(io.BytesIO(file.read_bytes())) as in_memory:
        assert wanted.shape[1:] == read_header(file).upright
        assert torch.equal(reader.read(image), wanted) and torch.equal(reader.read(in_memory), wanted)
        image.load()
        assert torch.equal(reader.read(image), wanted) and torch.equal(reader.read(image.copy()), wanted)


def test_pillow_images_of_which_something_would_be_lost_are_refused(tmp_path: Path) -> None:
    reader, hidden = Reader(), Image.new("RGBA", (4, 5), (1, 2, 3, 0))
    with pytest.raises(
        UserError,
        match=r"image \(in memory\) must be opaque, got an alpha channel that hides 20 of 20 pixels",
    ):
        reader.read(hidden)
    pages = [Image.new("L", (4, 4), shade) for shade in (0, 100)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    for image in (
        Image.open(tmp_path / "two.tif"),
        Image.open(io.BytesIO((tmp_path / "two.tif").read_bytes())),
    ):
        with image, pytest.raises(UserError, match="must have one page, got 2 pages"):
            reader.read(image)
    (tmp_path / "a.png").write_bytes(b"P6\n4 4\n1023\n" + bytes(96))
    with (
        Image.open(tmp_path / "a.png") as image,
        pytest.raises(UserError, match="if it has more than 8 bits a channel"),
    ):
        reader.read(image)


def test_the_callers_array_is_never_the_image() -> None:
    pixels = np.zeros((1, 1, 3), dtype=np.uint8)
    image = Reader().read(pixels)
    pixels[:] = 7
    assert not image.any()
