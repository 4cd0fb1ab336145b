"""The masks by themselves; tests/data/test_voc.py goes through the dataset."""

from pathlib import Path

import numpy as np
import pytest
from miniature_voc import voc_colours, write_palette, write_picture

from rpe.data.voc_mask import check_headers, combine_maps, palette, read_mask
from rpe.structures import UserError


def test_palette_is_the_devkits(tmp_path: Path) -> None:
    assert palette().flatten().tolist() == voc_colours()
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_palette(tmp_path / "mask.png", indices)
    assert (read_mask(tmp_path / "mask.png") == indices).all()
    write_picture(tmp_path / "a.jpg", np.zeros((16, 16, 3), dtype=np.uint8))
    check_headers(tmp_path / "a.jpg", tmp_path / "mask.png")


def test_void_of_either_map_is_void_and_ids_are_dense() -> None:
    objects = np.array([[0, 2, 2, 255, 5, 5, 0]], dtype=np.uint8)
    classes = np.array([[0, 7, 255, 7, 15, 15, 255]], dtype=np.uint8)
    labels, class_of = combine_maps(objects, classes, None, "x")
    assert labels.tolist() == [[0, 1, -1, -1, 2, 2, -1]] and class_of.tolist() == [7, 15]


def test_most_pixels_say_the_class_unless_it_is_given() -> None:
    objects, classes = np.ones((20, 20), dtype=np.uint8), np.full((20, 20), 9, dtype=np.uint8)
    classes[0, :3] = 4
    labels, class_of = combine_maps(objects, classes, None, "x")
    assert class_of.tolist() == [9] and (labels == -1).sum() == 3
    with pytest.raises(UserError, match="x: object and class mask must agree, got 397 of 400"):
        combine_maps(objects, classes, np.array([4]), "x")
    with pytest.raises(
        UserError, match="VOC's x: object and class mask must have one size, got 4 x 5 and 5 x 4"
    ):
        combine_maps(np.zeros((4, 5), dtype=np.uint8), np.zeros((5, 4), dtype=np.uint8), None, "VOC's x")
