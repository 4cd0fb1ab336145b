"""Predict boundary maps: run the detector at one or several scales, then suppress non-maxima."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from rpe.structures import Boundaries, UserError, pixel_centres

Detect = Callable[[Float[Tensor, "batch 3 height width"]], Boundaries]
"""A function from images to the network's output, such as `BoundaryDetector.detect`."""

SMOOTHING = 0.5
"""Standard deviation in pixels of the smoothing before ridges are sought, so that noise makes no crest."""

ORIENTATION_SCALE = 2.0
"""Standard deviation in pixels of the window in which gradients of both flanks give a ridge's direction."""

TIE_FACTOR = 1.01
"""Factor by which a neighbour across the ridge must be stronger to remove a pixel. The benchmark's own
thinning removes the rest."""


class Detection:
    """The settings of boundary detection for inference.

    Args:
        scales: factors of the image size; the probabilities of several are averaged at the original size.
        nms: keep only the crests of the map's ridges.

    Raises:
        UserError: no scale, or a scale <= 0.
    """

    def __init__(self, scales: list[float], nms: bool) -> None:
        if not scales or min(scales) <= 0:
            raise UserError(
                f"detection.scales must be one or more numbers > 0, got {scales}. Use e.g. [0.5,1,1.5]."
            )
        self.scales, self.nms = list(scales), nms

    def __call__(
        self, detect: Detect, image: Float[Tensor, "3 height width"]
    ) -> UInt8[np.ndarray, "height width"]:
        """Return the boundary map in steps of 1/255, as files store it."""
        strength = self.probability(detect, image)
        return np.round(255 * (suppress_non_maxima(strength) if self.nms else strength)).astype(np.uint8)

    def probability(
        self, detect: Detect, image: Float[Tensor, "3 height width"]
    ) -> Float[np.ndarray, "height width"]:
        """Return the probability of a boundary at each pixel: the mean over the scales."""
        height, width = image.shape[1:]
        total = torch.zeros(height * width, device=image.device)
        for scale in self.scales:
            size = [max(1, round(length * scale)) for length in (height, width)]
            scaled = image if size == [height, width] else transform.resize(image, size, antialias=True)
            fused = detect(scaled[None]).fused
            back = torch.tensor([size[0] / height, size[1] / width], device=image.device)
            positions = pixel_centres((height, width), image.device) * back
            total += fused.at(positions[None])[0, :, 0].sigmoid() / len(self.scales)
        return total.reshape(height, width).cpu().numpy()


def suppress_non_maxima(strength: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Set pixels to 0 that are smaller than one of their two neighbours across the ridge.

    The neighbours lie one pixel away, bilinear between pixels. "Across" is the main direction of the
    gradients in a window: the eigenvector of the structure tensor with the largest eigenvalue (Bigun and
    Granlund, 1987). Canny takes the pixel's own gradient, which vanishes on a crest and so has no direction
    there.
    """
    smooth = ndimage.gaussian_filter(strength.astype(np.float64), SMOOTHING, mode="nearest")
    slope = np.gradient(smooth)
    rows, mixed, columns = (
        ndimage.gaussian_filter(one * other, ORIENTATION_SCALE)
        for one, other in ((slope[0], slope[0]), slope, (slope[1], slope[1]))
    )
    across = 0.5 * np.arctan2(2 * mixed, rows - columns)
    down, right = np.cos(across), np.sin(across)
    here = np.indices(smooth.shape)
    crest = np.ones(smooth.shape, dtype=bool)
    for side in (-1, 1):
        beside = ndimage.map_coordinates(
            smooth, [here[0] + side * down, here[1] + side * right], order=1, mode="nearest"
        )
        crest &= smooth * TIE_FACTOR >= beside
    return np.where(crest, strength, 0).astype(strength.dtype)
