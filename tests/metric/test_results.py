"""Everything wrong with a results file is named by its row; nothing is dropped or scored silently."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.metric.results import categories_of, check_results, read_masks
from rpe.structures import UserError, encode_mask

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 777}, "result 1 names image 777, which the truth does not hold"),
        ({"image_id": "5"}, 'has the image_id "5": a whole number is wanted'),
        ({"image_id": True}, "has the image_id true: a whole number is wanted"),
        ({"image_id": None}, "has the image_id null"),
        ({"image_id": [5]}, "has the image_id .5.: a whole number"),
        ({"image_id": 5.5}, "has the image_id 5.5: a whole number"),
        ({"image_id": 7.0}, "names image 7.0, which the truth does not hold"),
        ({"score": float("nan")}, "score NaN: a finite number"),
        ({"score": float("inf")}, "score Infinity"),
        ({"score": "0.5"}, 'score "0.5": a finite number'),
        ({"score": True}, "score true: a finite number"),
        ({"score": 10**400}, "score 10000.* ..: a finite number"),
        ({"score": None}, "score null"),
        (
            {"segmentation": [[0, 0, 1, 1]]},
            r"no run-length mask but \[\[0, 0, 1, 1\]\]: segmentation holds size and counts, not polygons",
        ),
        (
            {"segmentation": {"size": [6.0, 9.0], "counts": "0f1"}},
            r"a mask of size \[6.0, 9.0\], but image 5 is \[6, 9\]",
        ),
        ({"segmentation": None}, "no run-length mask"),
        (
            {"segmentation": encode_mask(np.ones((9, 6), dtype=bool))},
            r"size \[9, 6\], but image 5 is \[6, 9\]",
        ),
        (code("hello world"), "result 1 .image 5. has a broken mask"),
        (code("¤¤"), "a character that no run-length code has"),
        (code("0 0"), "a character that no run-length code has"),
        (code("1P"), "stop in the middle of a number"),
        (code("PPPPPPPPPPPPPPPPPPPP1"), "a number beyond any image"),
        (code("O1"), "a negative run"),
        (code(encode_mask(np.ones((6, 8), dtype=bool))["counts"]), "add up to 48 pixels, its image has 54"),
        (code(""), "add up to 0 pixels"),
        (code([50, 3]), "no whole numbers from 0 on that add up to 54"),
        (code([60, -6]), "no whole numbers"),
        (code([53.0, 1.0]), "no whole numbers"),
        (code([53, True]), "no whole numbers"),
        (code([[53], {}]), "no whole numbers"),
    ],
)
def test_wrong_rows_are_named(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_results(TRUTH, [row(), row(score=0.4) | change])


def test_a_row_that_comes_twice_is_refused_a_mask_of_two_categories_is_not() -> None:
    check_results(TRUTH, [row(), row(category_id=2), row(score=0.4)])
    with pytest.raises(UserError, match=r"result 2 is result 0 again \(image 5\)"):
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
        match=r"result 1 \(image 5\) has the category "
        + shown
        + ", which the truth does not list: it lists 3 ..",
    ):
        check_results(listed, [row(category_id=3), row(category_id=category)])


def test_whole_floats_are_ids_as_data_frames_write_them() -> None:
    listed = {**TRUTH, "categories": [{"id": 3, "name": "cell"}]}
    rows = [row(image_id=5.0, category_id=3.0), row(image_id=5.0, category_id=3, score=1)]
    check_results(listed, rows)
    assert categories_of(listed, rows).tolist() == [3, 3]


def test_missing_keys_and_other_files_are_named() -> None:
    with pytest.raises(UserError, match="result 0 has no score"):
        check_results(TRUTH, [{"image_id": 5, "segmentation": {}}])
    with pytest.raises(UserError, match='result 0 is "row": each row is'):
        check_results(TRUTH, ["row"])
    with pytest.raises(UserError, match="not dict"):
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
