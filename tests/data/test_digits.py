import itertools

import numpy as np
import torch

from rpe.data.digits import MIN_VISIBLE, DigitScenes, are_adjacent, enlarge_digits
from rpe.rle import decode_mask


def test_same_seed_same_scene_and_new_ones_each_epoch() -> None:
    one, other = DigitScenes("train", 10, 5), DigitScenes("train", 10, 5)
    assert torch.equal(one[3][0], other[3][0]) and not torch.equal(one[3][0], one[13][0])
    assert not torch.equal(one[3][0], DigitScenes("train", 10, 6)[3][0])
    assert torch.equal(DigitScenes("val", 10, 5)[3][0], DigitScenes("val", 10, 6)[3][0])
    assert not torch.equal(DigitScenes("val", 10, 5)[3][0], DigitScenes("test", 10, 5)[3][0])


def test_scenes_keep_their_promises() -> None:
    scenes = [DigitScenes("train", 60, 0).scene(index) for index in range(60)]
    images, _ = enlarge_digits()
    meet = 0
    for scene in scenes:
        objects = np.unique(scene.labels)[1:]
        assert 2 <= len(objects) <= 5 and list(objects) == list(range(1, len(objects) + 1)) == [
            k + 1 for k in range(len(scene.classes))
        ]
        assert scene.image.shape == (3, 64, 64) and scene.image.min() >= 0 and scene.image.max() <= 1
        assert scene.image[:, scene.labels == 0].mean() < 0.2
        masks = [scene.labels == k for k in objects]
        meet += any(are_adjacent(masks[i], masks[j]) for i in range(len(masks)) for j in range(i))
        least = MIN_VISIBLE * min((image > 0.4).sum() for image in images)
        assert all(mask.sum() >= least for mask in masks)
    assert meet >= 30


def test_a_third_of_the_scenes_has_two_digits_of_one_colour() -> None:
    def hues(scene) -> list[np.ndarray]:
        return [
            np.median(scene.image[:, scene.labels == k], axis=1)
            / np.median(scene.image[:, scene.labels == k], axis=1).max()
            for k in range(1, scene.labels.max() + 1)
        ]

    alike = 0
    for index in range(0, 60, 3):
        colours = hues(DigitScenes("train", 60, 0).scene(index))
        alike += any(
            np.abs(colours[i] - colours[j]).max() < 0.1 for i in range(len(colours)) for j in range(i)
        )
    assert alike == 20


def test_splits_share_no_digit_image() -> None:
    images, classes = enlarge_digits()
    assert (
        images.shape == (1797, 28, 28)
        and set(classes) == set(range(10))
        and images.min() >= 0
        and images.max() <= 1
    )
    from rpe.data.digits import SPLIT_RANGES

    spans = sorted(SPLIT_RANGES.values())
    assert (
        spans[0][0] == 0
        and spans[-1][1] == 1797
        and all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    )


def test_truth_is_the_label_map() -> None:
    scenes = DigitScenes("test", 5, 0)
    truth = scenes.truth()
    _, labels, image_id, _, categories = scenes[2]
    assert (
        categories.tolist() == [0, *(digit + 1 for digit in scenes.scene(2).classes)]
        and scenes.classes[10] == "9"
    )
    mine = [annotation for annotation in truth["annotations"] if annotation["image_id"] == image_id]
    assert len(mine) == int(labels.max())
    for number, annotation in enumerate(mine, start=1):
        mask = decode_mask(annotation["segmentation"])
        assert (mask == (labels == number).numpy()).all() and annotation["area"] == mask.sum()
        left, top, width, height = map(int, annotation["bbox"])
        assert (
            mask[top : top + height, left : left + width].sum() == mask.sum()
            and mask[top].any()
            and mask[:, left].any()
        )
        assert mask[top + height - 1].any() and mask[:, left + width - 1].any()
        assert annotation["category_id"] == scenes.scene(2).classes[number - 1] + 1


def test_touching() -> None:
    one, other = np.zeros((5, 5), dtype=bool), np.zeros((5, 5), dtype=bool)
    one[0, 0] = other[2, 2] = True
    assert not are_adjacent(one, other)
    other[1, 1] = True
    assert are_adjacent(one, other)
