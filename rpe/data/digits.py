"""Scenes of overlapping handwritten digits, made on the fly from scikit-learn's 1,797 digit images (nothing is downloaded).

After the paper's synthetic example (section 5 and the authors' demo): coloured digits of 28 x 28 px that touch and hide one another.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import ndimage
from sklearn.datasets import load_digits
from torch.nn import functional

from rpe.data.module import InstanceData, Sample, SplitDataset, Truth, generator_of
from rpe.structures import BACKGROUND, UserError, encode_mask

SIDE = 64
DIGIT = 28
INK = 0.4
"""Where the grey value of an enlarged digit exceeds this share of its maximum, the pixel belongs to the digit."""

LEAST_VISIBLE = 0.3
FIRST_OF_SPLIT: dict[str, tuple[int, int]] = {"train": (0, 1297), "val": (1297, 1547), "test": (1547, 1797)}
"""Digit images of each split, in an order shuffled once."""

STREAM: dict[str, int] = {"train": 0, "val": 1, "test": 2}
NAMES = [str(digit) for digit in range(10)]
"""Of class 1, 2, .."""

SCENE_SEED = 1712
"""Validation and test scenes are the same whatever the run's seed."""


@cache
def enlarged_digits() -> tuple[Float[np.ndarray, "digit 28 28"], Int64[np.ndarray, " digit"]]:
    """scikit-learn's digits at 28 x 28 px in [0, 1] (bicubic from 8 x 8), shuffled once, and their classes."""
    bunch = load_digits()
    small = torch.from_numpy(bunch.images)[:, None] / 16
    large = functional.interpolate(small, size=(DIGIT, DIGIT), mode="bicubic", align_corners=False)[
        :, 0
    ].clamp(0, 1)
    order = generator_of(SCENE_SEED).permutation(len(large))
    return large.numpy()[order].astype(np.float32), bunch.target[order].astype(np.int64)


def touching(one: Bool[np.ndarray, "height width"], other: Bool[np.ndarray, "height width"]) -> bool:
    """Whether two masks overlap or are neighbours."""
    return bool((ndimage.binary_dilation(one, np.ones((3, 3))) & other).any())


class Scene:
    """One 64 x 64 scene: `image` in [0, 1], `labels` (0 background, 1..n the digits, later ones on top), `classes` of the digits.

    An even `index` has two touching digits, every third two of one colour, so that half and a third of any run of scenes do.
    """

    def __init__(self, split: str, index: int, random: np.random.Generator) -> None:
        self.split, self.random = split, random
        want_touching, want_one_colour = index % 2 == 0, index % 3 == 0
        count = int(random.integers(2, 6))
        while True:
            grey, masks, self.classes = self.place(count)
            self.labels = np.zeros((SIDE, SIDE), dtype=np.int64)
            for number, mask in enumerate(masks, start=1):
                self.labels[mask] = number
            visible = [
                (self.labels == number).sum() / mask.sum() for number, mask in enumerate(masks, start=1)
            ]
            meet = any(touching(masks[i], masks[j]) for i in range(count) for j in range(i))
            if min(visible) >= LEAST_VISIBLE and (meet or not want_touching):
                break
        self.image = self.paint(grey, masks, want_one_colour)

    def place(
        self, count: int
    ) -> tuple[list[Float[np.ndarray, "64 64"]], list[Bool[np.ndarray, "64 64"]], list[int]]:
        """Digits at random places: grey values, masks and classes."""
        images, classes = enlarged_digits()
        chosen = self.random.integers(*FIRST_OF_SPLIT[self.split], size=count)
        greys = []
        for digit in chosen:
            top, left = self.random.integers(0, SIDE - DIGIT + 1, size=2)
            grey = np.zeros((SIDE, SIDE), dtype=np.float32)
            grey[top : top + DIGIT, left : left + DIGIT] = images[digit]
            greys.append(grey)
        return greys, [grey > INK for grey in greys], [int(classes[digit]) for digit in chosen]

    def paint(
        self,
        greys: list[Float[np.ndarray, "64 64"]],
        masks: list[Bool[np.ndarray, "64 64"]],
        one_colour: bool,
    ) -> Float[np.ndarray, "3 64 64"]:
        """Colours on dark noisy ground, in the order in which the digits lie on one another."""
        colours = self.random.uniform(0.3, 1.0, size=(len(greys), 3)).astype(np.float32)
        colours[np.arange(len(greys)), self.random.integers(0, 3, size=len(greys))] = 1.0
        if one_colour:
            first, second = self.random.permutation(len(greys))[:2]
            colours[second] = colours[first]
        image = np.full((3, SIDE, SIDE), 0.08, dtype=np.float32)
        for grey, mask, colour in zip(greys, masks, colours, strict=True):
            image = np.where(mask, colour[:, None, None] * grey, image)
        noise = self.random.normal(0, 0.05, size=image.shape).astype(np.float32)
        return np.clip(image + noise, 0, 1)


class DigitScenes:
    """One split of the digits: `length` scenes, new ones each training epoch."""

    def __init__(self, split: str, length: int, seed: int) -> None:
        self.split, self.length, self.seed = split, length, seed
        self.classes = dict(enumerate(NAMES, start=1))

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """Scene `index`; the same for the same seed."""
        seed = self.seed if self.split == "train" else SCENE_SEED
        return Scene(self.split, index, generator_of(seed, STREAM[self.split], index))

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        categories = torch.tensor([BACKGROUND, *(digit + 1 for digit in scene.classes)])
        return Sample(
            torch.from_numpy(scene.image),
            torch.from_numpy(scene.labels),
            index % self.length + 1,
            (SIDE, SIDE),
            categories,
        )

    def truth(self) -> Truth:
        """The scenes of the first epoch; category k + 1 is the digit k, image ids count from 1."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(self.length):
            scene = self.scene(index)
            images.append(
                {"id": index + 1, "file_name": f"{self.split}-{index}", "height": SIDE, "width": SIDE}
            )
            for number, category in enumerate(scene.classes, start=1):
                mask = scene.labels == number
                rows, columns = np.nonzero(mask)
                low, high = (int(columns.min()), int(rows.min())), (int(columns.max()), int(rows.max()))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index + 1,
                        "category_id": category + 1,
                        "iscrowd": 0,
                        "area": int(mask.sum()),
                        "bbox": [*low, high[0] - low[0] + 1, high[1] - low[1] + 1],
                        "segmentation": encode_mask(mask),
                    }
                )
        categories = [{"id": number, "name": name} for number, name in self.classes.items()]
        return {"images": images, "annotations": annotations, "categories": categories}


class Digits(InstanceData):
    """Handwritten digits; `train_scenes`, `val_scenes`, `test_scenes` are the scenes of a split (of an epoch, in training)."""

    def __init__(
        self,
        name: str,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        train_scenes: int,
        val_scenes: int,
        test_scenes: int,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, num_workers, seed)
        for split, scenes in (("train", train_scenes), ("val", val_scenes), ("test", test_scenes)):
            if scenes < 1:
                raise UserError(f"data.{split}_scenes {scenes} is below 1: every split needs a scene")
        self.scenes: dict[str, int] = {"train": train_scenes, "val": val_scenes, "test": test_scenes}

    def open_split(self, split: str, training: bool) -> SplitDataset:
        return DigitScenes(split, self.scenes[split], self.seed)
