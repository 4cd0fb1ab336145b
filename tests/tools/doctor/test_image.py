"""Odd images, made here."""

from pathlib import Path

import numpy as np
from PIL import Image

from rpe.tools.doctor.image import examine_files, find_duplicates, sample_indices

NOISE = np.random.default_rng(0).integers(0, 250, size=(32, 40, 3), dtype=np.uint8)


def make(folder: Path) -> list[Path]:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(folder / "good.png")
    Image.fromarray(NOISE).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / "even.png")
    Image.fromarray((NOISE[..., 0] // 40).astype(np.uint16) + 100).save(folder / "deep.tif")
    Image.fromarray(NOISE // 60).save(folder / "faint.png")
    Image.fromarray(np.dstack([NOISE, NOISE[..., 0]])).save(folder / "clear.png")
    Image.fromarray(np.where(NOISE > 40, 255, NOISE).astype(np.uint8)).save(folder / "burnt.png")
    page = Image.fromarray(NOISE)
    page.save(folder / "pages.tif", save_all=True, append_images=[page])
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:900])
    return sorted(folder.iterdir())


def test_what_is_odd(tmp_path: Path) -> None:
    part = examine_files(make(tmp_path), 100, False)
    found = " | ".join(part.findings)
    for wanted in (
        "1 images with an EXIF orientation: are the masks sample_indices upright?: turned.jpg",
        "1 images of one value: even.png",
        "2 images of nearly no contrast: data.percentile_range=[1,99.8] makes the most of it: deep.tif, faint.png",
        "1 images whose alpha hides pixels: clear.png",
        "1 images with over 30% of white pixels: burnt.png",
        "1 images of several pages: pages.tif",
        "1 images that do not decode: broken.png",
    ):
        assert wanted in found, (wanted, part.findings)
    assert "good.png" not in found
    assert part.rows["image files"].startswith("PNG RGB 4")
    assert "nearly no contrast" not in " ".join(examine_files(sorted(tmp_path.iterdir()), 100, True).findings)


def test_the_same_content_within_a_split_and_in_two(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"one")
    (tmp_path / "d").write_bytes(b"two")
    files = {
        "train": [tmp_path / "a", tmp_path / "d", tmp_path / "b"],
        "val": [tmp_path / "c", tmp_path / "absent"],
    }
    assert find_duplicates(files) == [
        "1 pairs of images with the same content: a and b",
        "1 images that are in two splits: a (train) and c (val)",
    ]


def test_places_are_evenly_drawn() -> None:
    assert (
        sample_indices(5, 10) == [0, 1, 2, 3, 4]
        and sample_indices(101, 3) == [0, 50, 100]
        and sample_indices(1, 12) == [0]
    )
