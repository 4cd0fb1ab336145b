"""Find the objects of an image: network, proposals, one label map, and tiles where the image is large."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from rpe.data.image import Reader
from rpe.network.embedding import Embedding
from rpe.network.model import PixelEmbedding
from rpe.segment.classes import Probability, class_components, class_probability, means_inside
from rpe.segment.groups import PORTION, image_of
from rpe.segment.instances import Instances
from rpe.segment.proposer import Proposer
from rpe.segment.selection import selected
from rpe.segment.stitching import Piece, enlarged, stitched
from rpe.segment.tiles import Side, Tile, tiles_of
from rpe.sphere import normalise
from rpe.structures import FeatureMap, Geometry, NetworkOutput, Proposals

GRID = 64
"""Pixels at whose multiples tiles start, so that a network's grids (a stride of 2, halved five times) lie the same in all tiles."""


@dataclass
class Segmenter:
    """Find the objects of images with a trained network.

    Args:
        network: from pixels to points on the sphere.
        proposer: from points to ranked masks, by inference's own settings.
        groups: whether the network was taught to group; otherwise objects are the connected parts of its class map.
        reader: how images are read and made smaller, as in the data that the network was trained on.
        categories: ids and names of class 1, 2, ..; empty where the network knows no classes.
        precision: of the network alone, such as torch.bfloat16; None is that of its weights.
        tile: side in pixels of the network's image of the tiles that larger images are cut into; None never cuts; "auto" leaves
            images of up to 2 megapixels whole and cuts larger ones into tiles of 1,024.
        overlap: of two neighbouring tiles, at least; larger objects are put together from their parts.
        batch: tiles that the network sees at once.
    """

    network: PixelEmbedding
    proposer: Proposer
    groups: bool = True
    reader: Reader = field(default_factory=Reader)
    categories: dict[int, str] = field(default_factory=dict)
    precision: torch.dtype | None = None
    tile: Side = "auto"
    overlap: int = 256
    batch: int = 1

    def __call__(self, image: np.ndarray | Image.Image | str | Path) -> Instances:
        """Return the objects of one image of any size.

        Args:
            image: an array [height, width] or [height, width, 3] of uint8, uint16 or floating-point numbers in [0, 1];
                a Pillow image; or a file.

        Raises:
            UserError: it is no such image, or no step is left between two tiles.
        """
        return self.find(self.reader.read(image))

    def read(self, image: np.ndarray | Image.Image | str | Path) -> UInt8[np.ndarray, "height width 3"]:
        """Return an image in 8 bits with the intensities that the network sees; raises `UserError` as a call does."""
        return np.ascontiguousarray(self.reader.read(image).permute(1, 2, 0).numpy())

    def find(
        self, image: UInt8[Tensor, "3 height width"], advance: Callable[[float], None] = lambda share: None
    ) -> Instances:
        """Return the objects of an image as `Reader.read` gives it; `advance` is told the share that is done."""
        size = (image.shape[1], image.shape[2])
        seen = self.reader.for_network(image)
        cut = (seen.shape[1], seen.shape[2])
        tiles = tiles_of(cut, self.tile, self.overlap, multiple_of(self.network))
        if len(tiles) == 1:
            # at the original's size at once, as evaluation does
            (whole,) = tiles_of(size, None, 0, 1)
            found = stitched([whole], self.pieces(seen, tiles, size, advance), size)
        else:
            found = stitched(tiles, self.pieces(seen, tiles, None, advance), cut)
            found.labels = found.labels if cut == size else enlarged(found.labels, size)
        found.categories = self.categories
        return found

    def pieces(
        self,
        seen: UInt8[Tensor, "3 _ _"],
        tiles: list[Tile],
        size: tuple[int, int] | None,
        advance: Callable[[float], None],
    ) -> list[Piece]:
        """Return the objects of each tile, at `size` where it is given; tiles of one size go through the network together."""
        pieces: dict[int, Piece] = {}
        order = sorted(range(len(tiles)), key=lambda number: (tiles[number].size, number))
        for shape, numbers in groupby(order, key=lambda number: tiles[number].size):
            same = list(numbers)
            for start in range(0, len(same), self.batch):
                some = same[start : start + self.batch]
                images = torch.stack([seen[:, tiles[number].rows, tiles[number].columns] for number in some])
                embedded = self.embed(transform.to_dtype(images, torch.float32, scale=True))
                for index, number in enumerate(some):
                    pieces[number] = self.piece(image_of(embedded, index), Geometry(shape, size or shape))
                advance(len(pieces) / len(tiles))
        return [pieces[number] for number in range(len(tiles))]

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "batch 3 height width"]) -> NetworkOutput:
        """Return the network's output for images in [0, 1]."""
        device = next(self.network.parameters()).device
        half: AbstractContextManager[object] = nullcontext()
        if self.precision is not None:
            half = torch.autocast(device.type, dtype=self.precision)
        with half:
            return self.network.embed(images.to(device))

    @torch.no_grad()
    def propose(self, embedded: NetworkOutput, geometry: Geometry) -> tuple[Proposals, Probability | None]:
        """Return the ranked masks of one image, and each pixel's probability of each class where the network knows classes."""
        probability = None if embedded.classes is None else class_probability(embedded.classes, geometry)
        if self.groups:
            return self.proposer(embedded, geometry), probability
        assert probability is not None
        return class_components(probability, self.proposer.min_area), probability

    @torch.no_grad()
    def piece(self, embedded: NetworkOutput, geometry: Geometry) -> Piece:
        """Return the label map of one image: of its proposals those of `score_threshold` or more, the best first."""
        proposals, probability = self.propose(embedded, geometry)
        labels, chosen = selected(proposals, self.proposer.score_threshold)
        scores = proposals.scores[chosen]
        if proposals.classes is not None and probability is not None:
            # nothing but its class is known of such a part: that stands for its mode
            classes = proposals.classes[chosen]
            return Piece(labels.astype(np.int32), scores, np.eye(len(probability))[classes], classes)
        classes = np.zeros(len(chosen), dtype=np.int64)
        if probability is not None and chosen:
            classes = (
                means_inside([proposals.masks[index] for index in chosen], probability)[:, 1:].argmax(1) + 1
            )
        return Piece(
            labels.astype(np.int32), scores, modes_of(labels, len(chosen), embedded.points, geometry), classes
        )


def multiple_of(network: torch.nn.Module) -> int:
    """Return the step in pixels after which a network's grids and the coordinates of its embedding repeat."""
    embeddings = [
        part for part in network.modules() if isinstance(part, Embedding) and part.coordinates != "none"
    ]
    return math.lcm(GRID, *(period for part in embeddings for period in part.periods))


def modes_of(
    labels: Int64[np.ndarray, "height width"], objects: int, points: FeatureMap, geometry: Geometry
) -> Float[np.ndarray, "object dim"]:
    """Return the mean direction of each object's points."""
    device = points.values.device
    flat = torch.from_numpy(labels).flatten().to(device)
    where = (flat > 0).nonzero()[:, 0]
    total = torch.zeros(objects, points.values.shape[1], device=device)
    for part, mine in zip(
        geometry.centres(device)[where].split(PORTION), flat[where].split(PORTION), strict=True
    ):
        total.index_add_(0, mine - 1, points.at(part[None])[0].float())
    return normalise(total).double().cpu().numpy()
