"""Hold the objects of one image as one label map."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, Int64, UInt8
from scipy.ndimage import find_objects

from rpe.overlay import overlay
from rpe.rle import encode_labels
from rpe.structures import Proposals, RunLength, UserError


@dataclass
class Instances:
    """Objects that share no pixel, best score first, at the size of the original image.

    Args:
        labels: object k has label k + 1, the background 0.
        scores: in [0, 1].
        classes: from 1; 0 where the network knows no classes.
        categories: ids and names of class 1, 2, ..; empty where the network knows no classes.
        proposals: all ranked masks, which may overlap; None for an image that was cut into tiles.
    """

    labels: Int32[np.ndarray, "height width"]
    scores: Float[np.ndarray, " object"]
    classes: Int64[np.ndarray, " object"]
    categories: dict[int, str] = field(default_factory=dict)
    proposals: Proposals | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def areas(self) -> Int64[np.ndarray, " object"]:
        """Return the area of each object in pixels."""
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:]

    @property
    def boxes(self) -> Int64[np.ndarray, "object 4"]:
        """Return left, top, width and height of each object in pixels, as COCO's bbox."""
        boxes = [
            (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            for rows, columns in find_objects(self.labels, len(self))
        ]
        return np.array(boxes, dtype=np.int64).reshape(-1, 4)

    @property
    def masks(self) -> list[RunLength]:
        """Return each object's mask as COCO's compressed run lengths."""
        return encode_labels(self.labels.astype(np.int64), np.arange(1, len(self) + 1))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return rows of a COCO results file, with area and bbox in pixels.

        Without classes all rows have category 1.
        """
        ids = list(self.categories) or [1]
        columns = zip(
            self.classes.tolist(),
            self.masks,
            self.scores.tolist(),
            self.areas.tolist(),
            self.boxes.tolist(),
            strict=True,
        )
        return [
            {
                "image_id": image_id,
                "category_id": ids[max(0, number - 1)],
                "segmentation": mask,
                "score": score,
                "area": area,
                "bbox": box,
            }
            for number, mask, score, area, box in columns
        ]

    def overlay(self, image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
        """Return the image with each object tinted and its border in full colour.

        Args:
            image: [height, width] or [height, width, 3] in 8 bits; `Segmenter.read` converts any other image.

        Raises:
            UserError: `image` has another size, or is not uint8.
        """
        colour = image if image.ndim == 3 else np.stack([image] * 3, -1)
        if colour.dtype != np.uint8 or colour.shape != (*self.labels.shape, 3):
            wanted = " x ".join(map(str, self.labels.shape))
            raise UserError(
                f"image must be uint8 of {wanted} pixels, got {image.dtype} {list(image.shape)}. "
                "Use segmenter.read(image)."
            )
        return overlay(colour, self.labels)
