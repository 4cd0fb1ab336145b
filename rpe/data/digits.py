"""Generate scenes of overlapping handwritten digits from scikit-learn's 1,797 images, without a download.

They follow the paper's synthetic example (section 5 and the authors' demo): coloured digits of 28 x 28 pixels
that touch and occlude one another.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import ndimage
from torch.nn import functional

from rpe.data.annotation import make_annotation
from rpe.data.module import InstanceData, Sample, SplitDataset, make_generator
from rpe.rle import encode_mask
from rpe.structures import BACKGROUND, Truth, UserError

SCENE_SIDE = 64
DIGIT = 28
INK = 0.4
"""A pixel belongs to a digit if its grey value, in [0, 1], exceeds this threshold."""

MIN_VISIBLE = 0.3
"""Each digit of a scene shows at least this fraction of its pixels."""

SPLIT_RANGES: dict[str, tuple[int, int]] = {"train": (0, 1297), "val": (1297, 1547), "test": (1547, 1797)}
"""Range of the digit images of each split, in shuffled order."""

STREAM: dict[str, int] = {"train": 0, "val": 1, "test": 2}
"""Number of each split in the seed of its scenes."""

NAMES = [str(digit) for digit in range(10)]
"""Names of class 1, 2, .."""

SCENE_SEED = 1712
"""Seed of validation and test scenes, which are the same in all runs."""


@cache
def enlarge_digits() -> tuple[Float[np.ndarray, "digit 28 28"], Int64[np.ndarray, " digit"]]:
    """Return scikit-learn's 8 x 8 digits in [0, 1], resized (bicubic) and shuffled, and their classes."""
    from sklearn.datasets import load_digits  # a second to import; a prediction draws no scenes

    bunch = load_digits()
    small = torch.from_numpy(bunch.images)[:, None] / 16
    large = functional.interpolate(small, size=(DIGIT, DIGIT), mode="bicubic", align_corners=False)[
        :, 0
    ].clamp(0, 1)
    order = make_generator(SCENE_SEED).permutation(len(large))
    return large.numpy()[order].astype(np.float32), bunch.target[order].astype(np.int64)


def are_adjacent(one: Bool[np.ndarray, "height width"], other: Bool[np.ndarray, "height width"]) -> bool:
    """Return whether two masks overlap or touch, diagonally too."""
    return bool((ndimage.binary_dilation(one, np.ones((3, 3))) & other).any())


class Scene:
    """One scene of 64 x 64 pixels.

    `image` lies in [0, 1]. `labels` are 0 background, 1..n digits, later ones on top. `classes` are digits.
    Every second `index` has two touching digits, every third two digits of one colour.
    """

    def __init__(self, split: str, index: int, random: np.random.Generator) -> None:
        self.split, self.random = split, random
        want_touching, want_one_colour = index % 2 == 0, index % 3 == 0
        count = int(random.integers(2, 6))
        while True:
            grey, masks, self.classes = self.place_digits(count)
            self.labels = np.zeros((SCENE_SIDE, SCENE_SIDE), dtype=np.int64)
            for number, mask in enumerate(masks, start=1):
                self.labels[mask] = number
            visible = [
                (self.labels == number).sum() / mask.sum() for number, mask in enumerate(masks, start=1)
            ]
            touch = any(are_adjacent(masks[i], masks[j]) for i in range(count) for j in range(i))
            if min(visible) >= MIN_VISIBLE and (touch or not want_touching):
                break
        self.image = self.paint(grey, masks, want_one_colour)

    def place_digits(
        self, count: int
    ) -> tuple[list[Float[np.ndarray, "64 64"]], list[Bool[np.ndarray, "64 64"]], list[int]]:
        """Return grey values, masks and classes of digits at random positions."""
        images, classes = enlarge_digits()
        chosen = self.random.integers(*SPLIT_RANGES[self.split], size=count)
        greys = []
        for digit in chosen:
            top, left = self.random.integers(0, SCENE_SIDE - DIGIT + 1, size=2)
            grey = np.zeros((SCENE_SIDE, SCENE_SIDE), dtype=np.float32)
            grey[top : top + DIGIT, left : left + DIGIT] = images[digit]
            greys.append(grey)
        return greys, [grey > INK for grey in greys], [int(classes[digit]) for digit in chosen]

    def paint(
        self,
        greys: list[Float[np.ndarray, "64 64"]],
        masks: list[Bool[np.ndarray, "64 64"]],
        one_colour: bool,
    ) -> Float[np.ndarray, "3 64 64"]:
        """Paint the digits in random colours on a dark noisy background, later ones on top."""
        colours = self.random.uniform(0.3, 1.0, size=(len(greys), 3)).astype(np.float32)
        colours[np.arange(len(greys)), self.random.integers(0, 3, size=len(greys))] = 1.0
        if one_colour:
            first, second = self.random.permutation(len(greys))[:2]
            colours[second] = colours[first]
        image = np.full((3, SCENE_SIDE, SCENE_SIDE), 0.08, dtype=np.float32)
        for grey, mask, colour in zip(greys, masks, colours, strict=True):
            image = np.where(mask, colour[:, None, None] * grey, image)
        noise = self.random.normal(0, 0.05, size=image.shape).astype(np.float32)
        return np.clip(image + noise, 0, 1)


class DigitScenes:
    """One split of `length` scenes. Each training epoch has new ones."""

    def __init__(self, split: str, length: int, seed: int) -> None:
        self.split, self.length, self.seed = split, length, seed
        self.classes = dict(enumerate(NAMES, start=1))

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """Return scene `index`, a function of the seed."""
        seed = self.seed if self.split == "train" else SCENE_SEED
        return Scene(self.split, index, make_generator(seed, STREAM[self.split], index))

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        categories = torch.tensor([BACKGROUND, *(digit + 1 for digit in scene.classes)])
        return Sample(
            torch.from_numpy(scene.image),
            torch.from_numpy(scene.labels),
            index % self.length + 1,
            (SCENE_SIDE, SCENE_SIDE),
            categories,
        )

    def truth(self) -> Truth:
        """Return the truth of the first epoch. Category k + 1 is the digit k; image ids start at 1."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(self.length):
            scene = self.scene(index)
            images.append(
                {
                    "id": index + 1,
                    "file_name": f"{self.split}-{index}",
                    "height": SCENE_SIDE,
                    "width": SCENE_SIDE,
                }
            )
            for number, category in enumerate(scene.classes, start=1):
                mask = encode_mask(scene.labels == number)
                annotations.append(make_annotation(len(annotations) + 1, index + 1, category + 1, mask))
        categories = [{"id": number, "name": name} for number, name in self.classes.items()]
        return {"images": images, "annotations": annotations, "categories": categories}


class Digits(InstanceData):
    """Scenes of handwritten digits. `train_scenes`, `val_scenes`, `test_scenes`: scenes per epoch."""

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
                raise UserError(f"data.{split}_scenes must be >= 1, got {scenes}. Raise it.")
        self.scenes: dict[str, int] = {"train": train_scenes, "val": val_scenes, "test": test_scenes}

    def open_split(self, split: str, training: bool) -> SplitDataset:
        """Open a split's scenes, which are drawn from the seed."""
        return DigitScenes(split, self.scenes[split], self.seed)
