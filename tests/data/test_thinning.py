import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import thin as reference

from rpe.data.thinning import segment_changes, thin


@pytest.mark.parametrize("seed", range(40))
def test_the_same_pixels_as_scikit_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = random.integers(1, 150, size=2)
    smooth = ndimage.gaussian_filter(random.random(size), random.choice([0, 0.5, 1, 3]))
    mask = smooth > np.quantile(smooth, random.random())
    assert (thin(mask) == reference(mask)).all()


@pytest.mark.parametrize("width", [62, 63, 64, 65, 127, 128])
def test_words_end_anywhere(width: int) -> None:
    for mask in (
        np.ones((9, width), dtype=bool),
        np.arange(9 * width).reshape(9, width) % 7 > 2,
        np.eye(9, width, dtype=bool),
    ):
        assert (thin(mask) == reference(mask)).all()


def test_segments_change_left_of_and_above_a_border() -> None:
    segments = np.zeros((4, 5), dtype=np.int64)
    segments[2:, 3:] = 1
    wanted = np.zeros((4, 5), dtype=bool)
    wanted[1, 2:] = wanted[1:, 2] = True
    assert (segment_changes(segments) == wanted).all()
