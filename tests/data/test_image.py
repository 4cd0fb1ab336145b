from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpe.data.image import decode, open_image
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
