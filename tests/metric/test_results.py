"""Everything wrong with a results file is named by its row; nothing is dropped or scored silently."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.metric.results import check_results, read_categories, read_masks
from rpe.rle import encode_mask
from rpe.structures import UserError

SIZE = (6, 9)
TRUTH = {"images": [{"id": 5, "height": 6, "width": 9}], "annotations": [], "categories": []}


def row(**changes: object) -> dict:
    mask = np.zeros(SIZE, dtype=bool)
    mask[1:4, 2:7] = True
    return {"image_id": 5, "category_id": 1, "segmentation": encode_mask(mask), "score": 0.5} | changes


def code(counts: object) -> dict:
    return {"segmentation": {"size": list(SIZE), "counts": counts}}


def test_the_masks_come_back_in_order() -> None:
    full, none = np.ones(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    rows = [
        row(segmentation=encode_mask(full)),
        row(),
        row(segmentation=encode_mask(none)),
        row(**code([50, 3, 1])),
    ]
    check_results(TRUTH, rows)
    masks = read_masks(rows, [3, 0, 1, 2])
    assert masks.areas.tolist() == [3, 54, 15, 0] and masks.pixels.tolist() == [54] * 4
    check_results(TRUTH, [])
    assert read_masks([], []).areas.tolist() == []


def test_a_mask_under_several_scores_is_checked_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check row by row would hold the text of all masks."""
    monkeypatch.setattr("rpe.metric.results.check_row", None)
    check_results(TRUTH, [row(score=score) for score in (0.5, 1, 0.25)])
    with pytest.raises(TypeError):
        check_results(TRUTH, [row(), row(score=1), row()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 777}, "image_id of result 1 must be an image of the truth, got 777"),
        ({"image_id": "5"}, 'image_id of result 1 must be an integer, .* got "5"'),
        ({"image_id": True}, "must be an integer, .* got true"),
        ({"image_id": None}, "must be an integer, .* got null"),
        ({"image_id": [5]}, "must be an integer, .* got .5."),
        ({"image_id": 5.5}, "must be an integer, .* got 5.5"),
        ({"image_id": 7.0}, "must be an image of the truth, got 7.0"),
        ({"score": float("nan")}, "score of result 1 .image 5. must be a finite number, got NaN"),
        ({"score": float("inf")}, "must be a finite number, got Infinity"),
        ({"score": "0.5"}, 'must be a finite number, got "0.5"'),
        ({"score": True}, "must be a finite number, got true"),
        ({"score": 10**400}, "must be a finite number, got 10000.* .."),
        ({"score": None}, "must be a finite number, got null"),
        (
            {"segmentation": [[0, 0, 1, 1]]},
            r"must be a run-length \{size, counts\}, got \[\[0, 0, 1, 1\]\]. Encode polygons",
        ),
        (
            {"segmentation": {"size": [6.0, 9.0], "counts": "0f1"}},
            r"must be \[6, 9\], the size of image 5, got \[6.0, 9.0\]",
        ),
        ({"segmentation": None}, "must be a run-length .* got null"),
        (
            {"segmentation": encode_mask(np.ones((9, 6), dtype=bool))},
            r"must be \[6, 9\], the size of image 5, got \[9, 6\]",
        ),
        (
            code("hello world"),
            "segmentation.counts of result 1 .image 5. must be a valid run-length code, got ",
        ),
        (code("¤¤"), "a character outside the code"),
        (code("0 0"), "a character outside the code"),
        (code("1P"), "an unfinished number at the end"),
        (code("PPPPPPPPPPPPPPPPPPPP1"), "a number beyond any image"),
        (code("O1"), "a negative run"),
        (
            code(encode_mask(np.ones((6, 8), dtype=bool))["counts"]),
            "must add up to 54 pixels, those of its image, got 48",
        ),
        (code(""), "those of its image, got 0"),
        (code([50, 3]), r"must be integers >= 0 that add up to 54 pixels, got \[50, 3\]"),
        (code([60, -6]), "must be integers >= 0"),
        (code([53.0, 1.0]), "must be integers >= 0"),
        (code([53, True]), "must be integers >= 0"),
        (code([[53], {}]), "must be integers >= 0"),
    ],
)
def test_wrong_rows_are_named(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_results(TRUTH, [row(), row(score=0.4) | change])


def test_a_row_that_comes_twice_is_refused_a_mask_of_two_categories_is_not() -> None:
    check_results(TRUTH, [row(), row(category_id=2), row(score=0.4)])
    with pytest.raises(UserError, match=r"result 2 \(image 5\) must be new, got result 0 again"):
        check_results(TRUTH, [row(), row(score=0.4), row()])


@pytest.mark.parametrize(
    ("category", "shown"),
    [
        (99, "99"),
        (0, "0"),
        (None, "null"),
        ("3", '"3"'),
        ([3], r"\[3\]"),
        (True, "true"),
        (3.5, "3.5"),
        ("x" * 99, '"x{79} ..'),
    ],
)
def test_a_category_that_the_truth_does_not_list_is_named(category: object, shown: str) -> None:
    listed = {**TRUTH, "categories": [{"id": 3, "name": "cell"}]}
    check_results(
        listed,
        [row(category_id=3), {key: value for key, value in row(score=0.4).items() if key != "category_id"}],
    )
    with pytest.raises(
        UserError,
        match=r"category_id of result 1 \(image 5\) must be listed by the truth: 3 .*, got " + shown,
    ):
        check_results(listed, [row(category_id=3), row(category_id=category)])


def test_whole_floats_are_ids_as_data_frames_write_them() -> None:
    listed = {**TRUTH, "categories": [{"id": 3, "name": "cell"}]}
    rows = [row(image_id=5.0, category_id=3.0), row(image_id=5.0, category_id=3, score=1)]
    check_results(listed, rows)
    assert read_categories(listed, rows).tolist() == [3, 3]


def test_missing_keys_and_other_files_are_named() -> None:
    with pytest.raises(UserError, match="result 0 must have .*, got no score"):
        check_results(TRUTH, [{"image_id": 5, "segmentation": {}}])
    with pytest.raises(UserError, match='result 0 must be .*, got "row"'):
        check_results(TRUTH, ["row"])
    with pytest.raises(UserError, match="results must be a list of .*, got dict"):
        check_results(TRUTH, {"annotations": []})


def test_garbage_is_refused_or_a_mask_of_the_right_size() -> None:
    """Random texts, most of them broken: what passes is what pycocotools decodes."""
    random, passed = np.random.default_rng(0), 0
    good = row()["segmentation"]["counts"]
    for _ in range(3000):
        text = list(good)
        for _ in range(random.integers(1, 3)):
            text[random.integers(len(text))] = chr(random.integers(40, 120))
        changed = "".join(text)
        try:
            check_results(TRUTH, [row(**code(changed))])
        except UserError:
            continue
        passed += 1
        assert (
            read_masks([row(**code(changed))], [0]).areas[0]
            == coco_mask.decode({"size": list(SIZE), "counts": changed}).sum()
        )
    assert 5 < passed < 1500
