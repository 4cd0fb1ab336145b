"""From an image to its boundary map: the network at one or several scales, and non-maximum suppression across the boundaries."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from rpe.structures import Boundaries, UserError, pixel_centres

Detect = Callable[[Float[Tensor, "batch 3 height width"]], Boundaries]
"""A network's answer to images, such as `BoundaryDetector.detect`."""

SMOOTHING = 0.5
"""Pixels (standard deviation) over which a map is smoothed before its ridges are sought: noise of single pixels makes no crest."""

SURROUNDINGS = 2.0
"""Pixels (standard deviation) over which the gradients of both flanks tell a ridge's direction."""

SLACK = 1.01
"""A pixel stays unless its neighbour across the ridge is stronger by this factor; the benchmark's own thinning does the rest."""


class Detection:
    """Inference's own settings.

    Args:
        scales: of the image; the probabilities at several are averaged at its original size.
        nms: whether only the crests of the map's ridges are kept.

    Raises:
        UserError: no scale, or one that is not above 0.
    """

    def __init__(self, scales: list[float], nms: bool) -> None:
        if not scales or min(scales) <= 0:
            raise UserError(
                f"detection.scales {scales}: name one or more, all above 0, such as [0.5, 1, 1.5]"
            )
        self.scales, self.nms = list(scales), nms

    def __call__(
        self, detect: Detect, image: Float[Tensor, "3 height width"]
    ) -> UInt8[np.ndarray, "height width"]:
        """The boundary map in steps of 1/255, as files keep it."""
        strength = self.probability(detect, image)
        return np.round(255 * (suppressed(strength) if self.nms else strength)).astype(np.uint8)

    def probability(
        self, detect: Detect, image: Float[Tensor, "3 height width"]
    ) -> Float[np.ndarray, "height width"]:
        """Of a boundary at each pixel: the mean over the scales."""
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


def suppressed(strength: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """The map where it is not smaller than its two neighbours across the ridge, a pixel away and bilinear between pixels; 0 elsewhere.

    Across is the main direction of the gradients round about: the structure tensor's eigenvector with the largest eigenvalue (Bigun and Granlund,
    1987). Canny's way of the pixel's own gradient has no direction on a crest, where the gradient vanishes.
    """
    smooth = ndimage.gaussian_filter(strength.astype(np.float64), SMOOTHING, mode="nearest")
    slope = np.gradient(smooth)
    rows, mixed, columns = (
        ndimage.gaussian_filter(one * other, SURROUNDINGS)
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
        crest &= smooth * SLACK >= beside
    return np.where(crest, strength, 0).astype(strength.dtype)
