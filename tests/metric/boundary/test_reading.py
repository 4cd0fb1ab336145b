from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import io

from rpe.metric.boundary.reading import find_doubtful_maps, find_predictions, read_prediction
from rpe.structures import UserError

SIZE = (6, 9)
RAMP = np.linspace(0, 1, 54).reshape(SIZE)


def test_every_format_gives_the_same_map(tmp_path: Path) -> None:
    Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)).save(tmp_path / "sixteen.png")
    Image.fromarray(RAMP > 0.5).save(tmp_path / "one.png")
    np.save(tmp_path / "float.npy", RAMP.astype(np.float32))
    np.save(tmp_path / "bool.npy", RAMP > 0.5)
    io.savemat(tmp_path / "map.mat", {"anything": RAMP})
    doubled = np.zeros((13, 19))
    doubled[2::2, 2::2] = RAMP
    io.savemat(tmp_path / "contours.mat", {"ucm2": doubled, "beside": 1})
    exact = {
        "map.mat": 0,
        "contours.mat": 0,
        "float.npy": 1e-7,
        "sixteen.png": 1 / 131070,
        "eight.png": 1 / 510,
    }
    for file, error in exact.items():
        values = read_prediction(tmp_path / file, SIZE).map
        assert values is not None and np.abs(values - RAMP).max() <= error + 1e-12, file
    for file in ("one.png", "bool.npy"):
        assert (read_prediction(tmp_path / file, SIZE).map == (RAMP > 0.5)).all()


def test_segmentations_give_a_mask_each(tmp_path: Path) -> None:
    segments = np.ones(SIZE, dtype=np.uint16)
    segments[:, 5:] = 2
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = segments, np.ones_like(segments)
    io.savemat(tmp_path / "segs.mat", {"segs": cells})
    prediction = read_prediction(tmp_path / "segs.mat", SIZE)
    assert (
        prediction.map is None
        and [int(mask.sum()) for mask in prediction.masks] == [6, 0]
        and prediction.masks[0][:, 4].all()
    )


def with_one(value: float) -> np.ndarray:
    values = RAMP.copy()
    values[2, 2] = value
    return values


SPOILT = {
    "nan.npy": lambda file: np.save(file, with_one(np.nan)),
    "range.npy": lambda file: np.save(file, with_one(-0.1)),
    "size.npy": lambda file: np.save(file, RAMP.T),
    "axes.npy": lambda file: np.save(file, RAMP[..., None]),
    "integers.npy": lambda file: np.save(file, (RAMP * 255).astype(np.uint8)),
    "objects.npy": lambda file: np.save(file, np.array([{}], dtype=object), allow_pickle=True),
    "colour.png": lambda file: Image.fromarray(np.zeros((*SIZE, 3), dtype=np.uint8)).save(file),
    "torn.png": lambda file: file.write_bytes(b"\x89PNG\r\n\x1a\nnothing"),
    "matrices.mat": lambda file: io.savemat(file, {"a": RAMP, "b": RAMP}),
    "text.mat": lambda file: file.write_text("hello"),
    "empty.npy": lambda file: file.touch(),
    "archive.npy": lambda file: np.savez(file.open("wb"), RAMP),
    "short.mat": lambda file: (io.savemat(file, {"a": RAMP}), file.write_bytes(file.read_bytes()[:100])),
    "plain.mat": lambda file: io.savemat(file, {"segs": np.ones(SIZE)}),
    "none.mat": lambda file: io.savemat(file, {"segs": np.empty((1, 0), dtype=object)}),
    "shares.mat": lambda file: io.savemat(file, {"segs": cell_of(RAMP)}),
    "deep.mat": lambda file: io.savemat(file, {"segs": cell_of(np.ones((*SIZE, 2)))}),
    "words.mat": lambda file: io.savemat(file, {"ucm2": "words"}),
}


def cell_of(values: np.ndarray) -> np.ndarray:
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = values
    return cell


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan.npy", "got NaN"),
        ("range.npy", r"must be in \[0, 1\], got -0.1 to 1"),
        ("size.npy", r"must be 6 x 9 \(height x width\) as its image, got 9 x 6"),
        ("axes.npy", "must have two axes, height and width, got 3"),
        ("integers.npy", "uint8"),
        ("colour.png", "mode RGB"),
        ("matrices.mat", "a, b"),
        ("torn.png", "must decode"),
        ("text.mat", "must decode"),
        ("objects.npy", "must decode"),
        ("empty.npy", "must decode"),
        ("archive.npy", "must decode"),
        ("short.mat", "must decode"),
        ("plain.mat", "must be a cell of label maps"),
        ("none.mat", "must be a cell of label maps"),
        ("shares.mat", "must hold maps of integers"),
        ("deep.mat", "must hold maps of integers"),
        ("words.mat", "ucm2 of prediction .* must be a map of numbers"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, how: str, message: str) -> None:
    file = tmp_path / how
    SPOILT[how](file)
    with pytest.raises(UserError, match=message) as refusal:
        read_prediction(file, SIZE)
    assert str(file) in str(refusal.value) and "\n" not in str(refusal.value)


def test_each_image_needs_one_file(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", RAMP)
    np.save(tmp_path / "2.npy", RAMP)
    assert list(find_predictions(tmp_path, ["1", "2"])) == ["1", "2"]
    with pytest.raises(UserError, match="3.png .* must exist, got none"):
        find_predictions(tmp_path, ["1", "3"])
    (tmp_path / "1.png").touch()
    with pytest.raises(UserError, match="one file per image"):
        find_predictions(tmp_path, ["1"])
    with pytest.raises(UserError, match="predictions must be a folder"):
        find_predictions(tmp_path / "elsewhere", ["1"])


def test_maps_in_which_nothing_is_found_are_told(tmp_path: Path) -> None:
    lines = np.zeros(SIZE)
    lines[2] = 1
    maps = {"empty": lines * 0, "ones": lines * 1, "good": lines * 255, "inverted": 255 - lines * 255}
    for name, values in maps.items():
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(lines.astype(np.uint16)).save(tmp_path / "sixteen.png")
    np.save(tmp_path / "floats.npy", lines.astype(np.float32))

    def told(*names: str) -> list[str]:
        return find_doubtful_maps((read_prediction(tmp_path / name, SIZE) for name in names), 0.01)

    assert told("good.png", "floats.npy") == []
    assert told("empty.png", "good.png")[0].startswith(
        f"1 of 2 boundary maps are empty (every value is 0), for example {tmp_path / 'empty.png'}"
    )
    for name, largest in (("ones.png", "0.0039"), ("sixteen.png", "1.5e-05")):
        assert (
            f"no value above the lowest threshold 0.01, for example {tmp_path / name} with at most {largest}"
            in told(name)[0]
        )
    assert (
        "1 of 1 boundary maps are >= 0.5 in most pixels" in told("inverted.png")[0]
        and "inverted?" in told("inverted.png")[0]
    )
    assert len(told(*(f"{name}.png" for name in maps))) == 3


def test_a_map_with_another_suffix_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.PNG").touch()
    with pytest.raises(UserError, match="must exist, got none; there is 1.PNG. Add one for every image"):
        find_predictions(tmp_path, ["1"])
