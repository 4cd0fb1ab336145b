"""Crests of ridges in every direction, and several scales."""

import math

import numpy as np
import pytest
import torch

from rpe.segment.boundary_map import Detection, suppress_non_maxima
from rpe.structures import Boundaries, FeatureMap, UserError


class Bright:
    """Says that bright pixels are boundaries."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def detect(self, images: torch.Tensor) -> Boundaries:
        self.seen.append(tuple(images.shape[2:]))
        return Boundaries([], [], FeatureMap(8 * images[:, :1] - 4, 1))


def ridge(degrees: float, offset: float = 0.3, size: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """A ridge through the middle, five pixels wide, and each pixel's distance to its crest."""
    down, right = np.mgrid[:size, :size] - size / 2
    angle = math.radians(degrees)
    distance = down * math.cos(angle) - right * math.sin(angle) - offset
    return np.exp(-(distance**2) / 8), np.abs(distance)


@pytest.mark.parametrize("degrees", [0, 17, 45, 70, 90, 120, 163])
def test_a_ridge_keeps_its_crest_alone(degrees: float) -> None:
    strength, distance = ridge(degrees)
    left = suppress_non_maxima(strength)
    inner = np.zeros_like(left, dtype=bool)
    inner[4:-4, 4:-4] = True
    assert distance[(left > 0) & inner & (strength > 0.1)].max() < 1.1
    # a line without gaps: it crosses every row or every column
    crossed = (left > 0.5).any(1 if 45 <= degrees % 180 <= 135 else 0)
    assert crossed[4:-4].all()
    kept = left > 0
    assert (left[kept] == strength[kept]).all(), "what stays keeps its strength"


def test_a_flat_top_gets_a_crest_and_a_corner_is_kept() -> None:
    top = np.zeros((30, 30))
    top[10:15] = 1.0
    left = suppress_non_maxima(top)
    assert (left[12] == 1).all() and not left[10].any() and not left[14].any()
    corner = np.maximum(
        np.exp(-((np.mgrid[:30, :30][0] - 15) ** 2) / 4), np.exp(-((np.mgrid[:30, :30][1] - 15) ** 2) / 4)
    )
    left = suppress_non_maxima(corner)
    assert left[15, 3] and left[3, 15] and left[15, 15] and not left[8, 8]


def test_scales_are_averaged_at_the_original_size() -> None:
    image = torch.zeros(3, 20, 30)
    image[:, 8:12] = 1
    network = Bright()
    single = Detection([1], nms=False)(network.detect, image)
    assert (
        single.dtype == np.uint8
        and single.shape == (20, 30)
        and single[10, 5] == round(255 / (1 + math.exp(-4)))
    )
    several = Detection([0.5, 1, 1.5], nms=False)(network.detect, image)
    assert network.seen == [(20, 30), (10, 15), (20, 30), (30, 45)]
    assert several[10, 5] == pytest.approx(single[10, 5], abs=2) and several[0, 0] == pytest.approx(
        single[0, 0], abs=2
    )
    assert single[7, 5] < several[7, 5] < single[8, 5], "coarser scales blur"
    thin = Detection([1], nms=True)(network.detect, image)
    assert (thin > 128).sum() < (single > 128).sum()


@pytest.mark.parametrize("scales", [[], [0.0], [1.0, -1.0]])
def test_wrong_scales_are_refused(scales: list) -> None:
    with pytest.raises(UserError, match="detection.scales must be one or more numbers > 0"):
        Detection(scales, nms=True)
