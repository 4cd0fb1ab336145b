from pathlib import Path

import numpy as np
from PIL import Image

from rpe.class_picture import class_colours, draw_class_sheet, draw_classes, draw_confusion
from rpe.data.voc_mask import palette
from rpe.structures import Instances, encode_mask


def pixels_of(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_classes_have_vocs_colours_and_void_is_white() -> None:
    colours = class_colours(np.array([[-1, 0, 1, 20]]))[0]
    assert colours[0].tolist() == [255] * 3 and (colours[1:] == palette()[[0, 1, 20]]).all()


def test_a_sheet_shows_truth_prediction_and_instances_with_their_classes(tmp_path: Path) -> None:
    truth = np.zeros((20, 30), dtype=np.int64)
    truth[4:14, 4:14], truth[0] = 2, -1
    instances = Instances([encode_mask(truth == 2)], np.array([0.9]), (20, 30), np.array([2]))
    image, names = np.zeros((20, 30, 3), dtype=np.float32), ["background", "a", "b"]
    draw_class_sheet(image, truth, truth.clip(0), {"groups": instances}, names, 0.5, tmp_path / "one.png")
    draw_class_sheet(image, truth, truth.clip(0), {"groups": instances}, names, 0.95, tmp_path / "none.png")
    with_it, without = pixels_of(tmp_path / "one.png"), pixels_of(tmp_path / "none.png")
    assert with_it.shape == without.shape and with_it.shape[1] > 4 * with_it.shape[0]
    colours = {tuple(colour) for colour in with_it.reshape(-1, 3)}
    assert tuple(palette()[2]) in colours and (with_it[:, : 3 * with_it.shape[1] // 4] == without[:, : 3 * with_it.shape[1] // 4]).all()
    assert (with_it != without).any(), "what scores less is not shown"


def test_figures_and_confusions_are_drawn(tmp_path: Path) -> None:
    names = ["background", "a", "b"]
    columns = {"objects": np.array([np.nan, 3, 0]), "IoU": np.array([0.9, 0.5, 0.1]), "AP": np.array([np.nan, 0.5, np.nan])}
    draw_classes(names, columns, tmp_path / "classes.png")
    draw_confusion(np.array([[90, 5, 5], [0, 10, 0], [0, 0, 0]]), names, tmp_path / "one.png")
    draw_confusion(np.array([[90, 5, 5], [10, 0, 0], [0, 0, 0]]), names, tmp_path / "other.png")
    assert len(np.unique(pixels_of(tmp_path / "classes.png").reshape(-1, 3), axis=0)) > 20
    assert (pixels_of(tmp_path / "one.png") != pixels_of(tmp_path / "other.png")).any()
