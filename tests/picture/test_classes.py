from pathlib import Path

import numpy as np
from PIL import Image

from rpe.data.voc_mask import palette
from rpe.picture.classes import class_colours, draw_class_sheet, draw_classes, draw_confusion
from rpe.rle import encode_mask
from rpe.structures import Proposals


def pixels_of(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_classes_have_vocs_colours_and_void_is_white() -> None:
    colours = class_colours(np.array([[-1, 0, 1, 20]]))[0]
    assert colours[0].tolist() == [255] * 3 and (colours[1:] == palette()[[0, 1, 20]]).all()


def test_a_sheet_shows_truth_prediction_and_instances_with_their_classes(tmp_path: Path) -> None:
    truth = np.zeros((20, 30), dtype=np.int64)
    truth[4:14, 4:14], truth[0] = 2, -1
    masks = [encode_mask(truth == 2), encode_mask(np.arange(600).reshape(20, 30) > 450)]
    image, names = np.zeros((20, 30, 3), dtype=np.float32), ["background", "a", "b"]
    for name, classes in (("one", [2, 1]), ("other", [2, 2])):
        draw_class_sheet(
            image,
            truth,
            truth.clip(0),
            Proposals(masks, np.array([0.3, 0.2]), (20, 30), np.array(classes)),
            names,
            tmp_path / f"{name}.png",
        )
    one, other = pixels_of(tmp_path / "one.png"), pixels_of(tmp_path / "other.png")
    colours = {tuple(colour) for colour in one.reshape(-1, 3)}
    assert one.shape == other.shape and one.shape[1] > 4 * one.shape[0] and tuple(palette()[2]) in colours
    assert (one != other).any() and (
        one[:, : 3 * one.shape[1] // 4] == other[:, : 3 * one.shape[1] // 4]
    ).all(), "the classes' names alone differ"
    draw_class_sheet(image, truth, truth.clip(0), None, names, tmp_path / "none.png")
    assert pixels_of(tmp_path / "none.png").shape[1] < one.shape[1], (
        "without groups there is no panel of theirs"
    )


def test_figures_and_confusions_are_drawn(tmp_path: Path) -> None:
    names = ["background", "a", "b"]
    columns = {
        "objects": np.array([np.nan, 3, 0]),
        "IoU": np.array([0.9, 0.5, 0.1]),
        "AP": np.array([np.nan, 0.5, np.nan]),
    }
    draw_classes(names, columns, tmp_path / "classes.png")
    draw_confusion(np.array([[90, 5, 5], [0, 10, 0], [0, 0, 0]]), names, tmp_path / "one.png")
    draw_confusion(np.array([[90, 5, 5], [10, 0, 0], [0, 0, 0]]), names, tmp_path / "other.png")
    assert len(np.unique(pixels_of(tmp_path / "classes.png").reshape(-1, 3), axis=0)) > 20
    assert (pixels_of(tmp_path / "one.png") != pixels_of(tmp_path / "other.png")).any()
