import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from rpe.data.image import LEAST_RANGE, Reader, check_sides, check_single, check_stretch, decode, decode_stretched, of_any_size, open_image, stretched
from rpe.structures import UserError


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_absent_and_no_image(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(file)
    assert decode(open_image(file), file, "RGB").shape == (40, 50, 3) and decode(open_image(file), file, "L").shape == (40, 50)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"a.{suffix} does not decode"):
        decode(open_image(file), file, "RGB")
    for content in (b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"a.{suffix} does not decode"):
            open_image(file)
    with pytest.raises(UserError, match="does not exist"):
        open_image(tmp_path / "b.png")


def test_stretched_percentiles_become_black_and_white_alike_in_all_channels() -> None:
    ramp = torch.arange(50, 151, dtype=torch.uint8).repeat(3, 1)[:, None]
    out = stretched(ramp, (10.0, 90.0))
    assert out.dtype == torch.uint8 and out[0, 0, 10] == 0 and out[0, 0, 90] == 255 and out[0, 0, 50] == 128
    assert (out[:, 0, :10] == 0).all() and (out[:, 0, 91:] == 255).all() and torch.equal(out[0], out[2])


def test_noise_of_a_flat_image_is_not_blown_up() -> None:
    flat = torch.full((3, 10, 10), 20, dtype=torch.uint8)
    flat[:, ::2] += 1
    out = stretched(flat, (1.0, 99.0))
    assert int(out.max()) - int(out.min()) == round(255 / LEAST_RANGE)


@pytest.mark.parametrize("percentiles", [[1.0], [99.0, 1.0], [-1.0, 50.0], [5.0, 101.0]])
def test_percentiles_must_be_a_pair_in_order(percentiles: list[float]) -> None:
    with pytest.raises(UserError, match=r"data.stretch .* is no pair of percentiles"):
        check_stretch(percentiles)


def deep(file: Path, values: np.ndarray) -> Image.Image:
    Image.fromarray(values).save(file)
    return Image.open(file)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"deep.{suffix}"
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    pixels = decode(deep(file, values), file, "RGB")
    assert pixels.shape == (6, 8, 3) and (pixels == np.rint(values / 257).astype(np.uint8)[..., None]).all()
    assert (decode(Image.open(file), file, None) == values).all()


def test_a_cameras_twelve_bits_are_stretched_before_they_become_eight(tmp_path: Path) -> None:
    file = tmp_path / "camera.png"
    ramp = np.arange(600, 1601, dtype=np.uint16)[None].repeat(2, 0)
    out = decode_stretched(deep(file, ramp), file, (10.0, 90.0))
    assert out.shape == (3, 2, 1001) and len(out.unique()) == 256 and out[0, 0, 100] == 0 and out[0, 0, 500] == 128 and out[2, 1, 900] == 255
    flat = np.full((10, 10), 1000, dtype=np.uint16)
    flat[::2] += 2
    noise = decode_stretched(deep(file, flat), file, (1.0, 99.0))
    assert int(noise.max()) - int(noise.min()) < 40, "noise is not blown up"
    eight = np.arange(50, 151, dtype=np.uint8)[None].repeat(2, 0)
    assert torch.equal(decode_stretched(deep(file, eight), file, (1.0, 99.0)), stretched(torch.from_numpy(eight)[None].repeat(3, 1, 1), (1.0, 99.0)))


@pytest.mark.parametrize(
    "values", [np.full((4, 4), 0.5, dtype=np.float32), np.full((4, 4), 70000, dtype=np.int32), np.full((4, 4), -1, dtype=np.int32)]
)
def test_values_whose_white_nobody_knows_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    file = tmp_path / "deep.tif"
    for read in (lambda image: decode(image, file, "RGB"), lambda image: decode_stretched(image, file, (1.0, 99.0))):
        with pytest.raises(UserError, match="deep.tif has values from .*: save it with 8 or 16 bits"):
            read(deep(file, values))


def test_sides() -> None:
    check_sides(None, 1)
    with pytest.raises(UserError, match=r"data.longest_side 0 is below 1"):
        check_sides(0, 8)


def test_a_text_that_unpacks_without_end_is_a_broken_image(tmp_path: Path) -> None:
    text, file = PngInfo(), tmp_path / "bomb.png"
    text.add_text("comment", "a" * 3_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(file, pnginfo=text)
    with pytest.raises(UserError, match="bomb.png does not decode"), open_image(file) as image:
        decode(image, file, "RGB")


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)]
    for name, rest in (("one", []), ("three", pages[1:])):
        pages[0].save(tmp_path / f"{name}.{suffix}", save_all=True, append_images=rest)
    with open_image(tmp_path / f"one.{suffix}") as image:
        check_single(image, tmp_path)
    with open_image(tmp_path / f"three.{suffix}") as image, pytest.raises(UserError, match="has 3 pages: save its pages as files of their own"):
        check_single(image, tmp_path)


def test_any_size_is_read_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is too large"):
        open_image(tmp_path / "a.png")
    with of_any_size(), open_image(tmp_path / "a.png") as image:
        assert image.size == (30, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_stretching_takes_a_few_bytes_a_pixel() -> None:
    image = torch.randint(0, 256, (3, 1000, 1000), dtype=torch.uint8)
    tracemalloc.start()
    with torch.profiler.profile(profile_memory=True) as profile:
        stretched(image, (1.0, 99.0))
    of_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    of_torch = max(event.cpu_memory_usage for event in profile.events())
    assert of_numpy < 3.5 * image.numel() and of_torch < image.numel()


@pytest.mark.parametrize("stretch", [None, (1.0, 99.0)])
def test_arrays_are_read_as_files_of_the_same_pixels(tmp_path: Path, stretch: tuple[float, float] | None) -> None:
    reader, random = Reader(None, stretch), np.random.default_rng(0)
    colour = random.integers(20, 180, size=(30, 40, 3), dtype=np.uint8)
    deep = random.integers(0, 4096, size=(30, 40), dtype=np.uint16)
    for number, pixels in enumerate((colour, colour[..., 0], deep)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        assert torch.equal(reader.read(pixels), reader.read(tmp_path / f"{number}.png")), number
    assert torch.equal(reader.read(np.stack([deep] * 3, -1)), reader.read(deep)) and torch.equal(reader.read(deep.astype(">u2")), reader.read(deep))
    # from 0 to 1 in steps of 1/255, the intensities of the bytes
    assert (reader.read(colour / 255).int() - reader.read(colour).int()).abs().max() <= (stretch is not None)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 5, 4), dtype=np.uint8), r"image must be .height, width. or .height, width, 3., got .4, 5, 4."),
        (np.zeros((0, 5), dtype=np.uint8), "got .0, 5."),
        (np.zeros(5, dtype=np.uint8), "got .5."),
        (np.full((4, 5), 255.0), r"image must lie in \[0, 1\] where it is floating-point, got 255 to 255"),
        (np.full((4, 5), np.nan), "got nan to nan"),
        (np.zeros((4, 5), dtype=np.int64), "image must be uint8, uint16 or floating-point, got int64"),
        (np.zeros((4, 5), dtype=bool), "got bool"),
    ],
)
def test_arrays_that_are_no_images_are_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Reader(None, None).read(pixels)
