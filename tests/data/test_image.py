from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rpe.data.image import LEAST_RANGE, check_stretch, decode, open_image, stretched
from rpe.structures import InputError


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_absent_and_no_image(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(file)
    assert decode(open_image(file), file, "RGB").shape == (40, 50, 3) and decode(open_image(file), file, "L").shape == (40, 50)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"a.{suffix} does not decode"):
        decode(open_image(file), file, "RGB")
    for content in (b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=rf"a.{suffix} does not decode"):
            open_image(file)
    with pytest.raises(InputError, match="does not exist"):
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
    with pytest.raises(InputError, match=r"data.stretch .* is no pair of percentiles"):
        check_stretch(percentiles)
