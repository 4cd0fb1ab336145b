"""Find the objects of an image: network, proposals, one label map, and tiles for large images."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transform

from rpe.data.image import Reader
from rpe.network.backbone.decoder import pad_images
from rpe.network.embedding import Embedding
from rpe.network.model import PixelEmbedding
from rpe.segment.classes import Probability, average_inside, class_components, class_probability
from rpe.segment.groups import PIXELS_PER_CHUNK, select_image
from rpe.segment.instances import Instances
from rpe.segment.proposer import Proposer
from rpe.segment.selection import select_proposals
from rpe.segment.stitching import Piece, resize_labels, stitch_tiles
from rpe.segment.tiles import Side, Tile, cut_tiles
from rpe.sphere import normalise
from rpe.structures import Batch, FeatureMap, Geometry, NetworkOutput, Proposals

GRID = 64
"""Tiles start at multiples of these pixels, so that a network's grids of up to so many pixels (a stride of 2,
halved five times) lie the same in all tiles."""


@dataclass
class Segmenter:
    """A trained network with the inference settings that find the objects of images.

    Args:
        network: maps pixels to points on the sphere.
        proposer: maps points to ranked masks.
        uses_grouping: True if the network was trained to group; otherwise objects are the connected
            components of its class map.
        reader: reads and downsizes images, as for the data that the network was trained on.
        categories: ids and names of class 1, 2, ..; empty for a network without classes.
        precision: of the network alone, such as torch.bfloat16; None is that of its weights.
        tile: side of the tiles that larger images are cut into, in pixels of the network's image. None never
            cuts; "auto" cuts images of more than 2 megapixels into tiles of 1,024.
        overlap: least overlap of two neighbouring tiles; larger objects are stitched from their parts.
        batch: tiles in one pass of the network.
    """

    network: PixelEmbedding
    proposer: Proposer
    uses_grouping: bool = True
    reader: Reader = field(default_factory=Reader)
    categories: dict[int, str] = field(default_factory=dict)
    precision: torch.dtype | None = None
    tile: Side = "auto"
    overlap: int = 256
    batch: int = 1

    def __call__(self, image: np.ndarray | Image.Image | str | Path) -> Instances:
        """Return the objects of one image of any size.

        Args:
            image: an array [height, width] or [height, width, 3] of uint8, uint16 or floating-point numbers
                in [0, 1]; a Pillow image; or a file.

        Raises:
            UserError: `image` is something else, or no step is left between two tiles.
        """
        return self.find(self.reader.read(image))

    def read(self, image: np.ndarray | Image.Image | str | Path) -> UInt8[np.ndarray, "height width 3"]:
        """Return an image in 8 bits with the intensities that the network sees.

        Raises:
            UserError: `image` is not an image (see `__call__`).
        """
        return np.ascontiguousarray(self.reader.read(image).permute(1, 2, 0).numpy())

    def find(
        self, image: UInt8[Tensor, "3 height width"], advance: Callable[[float], None] = lambda share: None
    ) -> Instances:
        """Return the objects of an image that `Reader.read` returned.

        `advance` is called with the fraction of the work that is done.
        """
        size = (image.shape[1], image.shape[2])
        seen = self.reader.for_network(image)
        cut = (seen.shape[1], seen.shape[2])
        tiles = cut_tiles(cut, self.tile, self.overlap, network_period(self.network))
        if len(tiles) == 1:
            # masks at the original's size directly, as in evaluation
            (whole,) = cut_tiles(size, None, 0, 1)
            pieces = self.pieces(seen, tiles, size, advance)
            found = stitch_tiles([whole], pieces, size)
            found.proposals = pieces[0].proposals
        else:
            found = stitch_tiles(tiles, self.pieces(seen, tiles, None, advance), cut)
            found.labels = found.labels if cut == size else resize_labels(found.labels, size)
        found.categories = self.categories
        return found

    def pieces(
        self,
        seen: UInt8[Tensor, "3 _ _"],
        tiles: list[Tile],
        size: tuple[int, int] | None,
        advance: Callable[[float], None],
    ) -> list[Piece]:
        """Return the objects of each tile.

        Args:
            seen: the image as the network gets it.
            tiles: cover the image; those of equal size are batched.
            size: (height, width) of the labels; None is the tile's.
            advance: is called with the fraction that is done.
        """
        pieces: dict[int, Piece] = {}
        order = sorted(range(len(tiles)), key=lambda number: (tiles[number].size, number))
        for shape, numbers in groupby(order, key=lambda number: tiles[number].size):
            same = list(numbers)
            for start in range(0, len(same), self.batch):
                some = same[start : start + self.batch]
                images = torch.stack([seen[:, tiles[number].rows, tiles[number].columns] for number in some])
                outputs = self.embed(transform.to_dtype(images, torch.float32, scale=True))
                for index, number in enumerate(some):
                    pieces[number] = self.piece(select_image(outputs, index), Geometry(shape, size or shape))
                advance(len(pieces) / len(tiles))
        return [pieces[number] for number in range(len(tiles))]

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "batch 3 height width"]) -> NetworkOutput:
        """Return the network's output for images in [0, 1], with the objectness of the proposer's views."""
        weight = next(self.network.parameters())
        half: AbstractContextManager[object] = nullcontext()
        if self.precision is not None:
            half = torch.autocast(weight.device.type, dtype=self.precision)
        with half:
            # precision=double has double weights
            return embed_views(self.network, images.to(weight.device, weight.dtype), self.proposer.views)

    def embed_one(self, batch: Batch) -> tuple[NetworkOutput, Geometry]:
        """Return the network's output for a batch of one image, and the image's sizes."""
        network_size = (batch.images.shape[2], batch.images.shape[3])
        return self.embed(batch.images), Geometry(network_size, batch.sizes[0])

    @torch.no_grad()
    def propose(self, output: NetworkOutput, geometry: Geometry) -> tuple[Proposals, Probability | None]:
        """Return the ranked masks of one image, and each pixel's class probabilities.

        The latter are None for a network without classes.
        """
        probability = None if output.classes is None else class_probability(output.classes, geometry)
        if self.uses_grouping:
            return self.proposer(output, geometry), probability
        assert probability is not None
        return class_components(probability, self.proposer.min_area), probability

    @torch.no_grad()
    def piece(self, output: NetworkOutput, geometry: Geometry) -> Piece:
        """Return one image's label map of the proposals that score at least `score_threshold`."""
        proposals, probability = self.propose(output, geometry)
        labels, chosen = select_proposals(proposals, self.proposer.score_threshold)
        scores = proposals.scores[chosen]
        if proposals.classes is not None and probability is not None:
            # a component of the class map has only its class, which stands for its mode
            classes = proposals.classes[chosen]
            modes = np.eye(len(probability))[classes]
            return Piece(labels.astype(np.int32), scores, modes, classes, proposals)
        classes = np.zeros(len(chosen), dtype=np.int64)
        if probability is not None and chosen:
            means = average_inside([proposals.masks[index] for index in chosen], probability)
            classes = means[:, 1:].argmax(1) + 1
        modes = compute_modes(labels, len(chosen), output.points, geometry)
        return Piece(labels.astype(np.int32), scores, modes, classes, proposals)


def embed_views(
    network: PixelEmbedding, images: Float[Tensor, "batch 3 height width"], views: int
) -> NetworkOutput:
    """Return the output, with objectness and classes averaged over the first of an image's eight views.

    The views are the image, its mirror image, and their quarter turns. The points stay those of the image,
    since the embedding of a turned image is another one, whose codes cannot be averaged with these.
    """
    if views == 1:
        return network.embed(images)
    # whole cells, so that a view's grid is the image's, mirrored and turned
    images = pad_images(images, network.backbone.multiple)
    output = network.embed(images)
    totals = [each.values for each in averaged_maps(output)]
    for view in range(1, views):
        mirrored, turns = view % 2, view // 2
        seen = network.embed(torch.rot90(images.flip(-1) if mirrored else images, turns, (-2, -1)))
        backs = [torch.rot90(each.values, -turns, (-2, -1)) for each in averaged_maps(seen)]
        totals = [
            total + (back.flip(-1) if mirrored else back) for total, back in zip(totals, backs, strict=True)
        ]
    means = [
        FeatureMap(total / views, each.stride)
        for total, each in zip(totals, averaged_maps(output), strict=True)
    ]
    return replace(output, objectness=means[0], classes=means[1] if len(means) > 1 else None)


def averaged_maps(output: NetworkOutput) -> list[FeatureMap]:
    """Return the maps that are averaged over views: objectness and, where there are any, classes."""
    return [output.objectness] if output.classes is None else [output.objectness, output.classes]


def network_period(network: torch.nn.Module) -> int:
    """Return the step in pixels after which a network's grids and its embedding's coordinates repeat."""
    embeddings = [
        part for part in network.modules() if isinstance(part, Embedding) and part.coordinates != "none"
    ]
    return math.lcm(GRID, *(period for part in embeddings for period in part.periods))


def compute_modes(
    labels: Int64[np.ndarray, "height width"], objects: int, points: FeatureMap, geometry: Geometry
) -> Float[np.ndarray, "object dim"]:
    """Return the mean direction of each object's points."""
    device = points.values.device
    flat = torch.from_numpy(labels).flatten().to(device)
    where = (flat > 0).nonzero()[:, 0]
    positions = geometry.centres(device)[where].split(PIXELS_PER_CHUNK)
    total = torch.zeros(objects, points.values.shape[1], device=device)
    for chunk, mine in zip(positions, flat[where].split(PIXELS_PER_CHUNK), strict=True):
        total.index_add_(0, mine - 1, points.at(chunk[None])[0].float())
    return normalise(total).double().cpu().numpy()
