"""Average precision by class: by hand, against pycocotools called by hand, and void that belongs to no class."""

import numpy as np
import pytest
from classed_results import by_hand, noisy, oracle

from rpe.data.digits import DigitScenes
from rpe.metric.class_ap import at_thresholds, class_precision, mean_over_classes
from rpe.rle import decode_mask, encode_mask
from rpe.structures import UserError

CATEGORIES = {digit + 1: str(digit) for digit in range(10)}


@pytest.fixture(scope="module")
def truth() -> dict:
    return DigitScenes("val", 12, 0).truth()


@pytest.mark.parametrize("backend", ["own", "pycocotools", "faster"])
def test_each_class_equals_pycocotools_called_by_hand(truth: dict, backend: str) -> None:
    for seed in range(2):
        rows = noisy(truth, seed)
        table = class_precision(truth, rows, CATEGORIES, backend)
        wanted = by_hand(truth, rows)
        for index, category in enumerate(CATEGORIES):
            if category in wanted:
                assert table[:, index] == pytest.approx(wanted[category], abs=1e-6)
            else:
                assert np.isnan(table[:, index]).all()
        columns = at_thresholds(table)
        means = mean_over_classes(columns)
        assert 0.05 < means["APr70"] < means["APr50"] < 0.95
        assert means["AP"] == pytest.approx(np.mean([values.mean() for values in wanted.values()]), abs=1e-6)
        assert means["APr50"] == pytest.approx(np.mean([values[0] for values in wanted.values()]), abs=1e-6)
        assert means["APr70"] == pytest.approx(np.mean([values[4] for values in wanted.values()]), abs=1e-6)


def test_oracle_masks_with_oracle_classes(truth: dict) -> None:
    means = mean_over_classes(at_thresholds(class_precision(truth, oracle(truth), CATEGORIES, "own")))
    assert means == pytest.approx({"AP": 1.0, "APr50": 1.0, "APr70": 1.0})
    assert mean_over_classes(at_thresholds(class_precision(truth, [], CATEGORIES, "own"))) == {
        "AP": 0.0,
        "APr50": 0.0,
        "APr70": 0.0,
    }


def scene(*objects: int) -> dict:
    """Bars of 4 x 8 pixels, one below the other, of these categories."""
    annotations = []
    for number, category in enumerate(objects, start=1):
        mask = np.zeros((40, 8), dtype=bool)
        mask[4 * number - 4 : 4 * number] = True
        segmentation = encode_mask(mask)
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": category,
                "iscrowd": 0,
                "area": 32.0,
                "segmentation": segmentation,
            }
        )
    categories = [{"id": 3, "name": "a"}, {"id": 8, "name": "b"}]
    return {
        "images": [{"id": 1, "height": 40, "width": 8, "file_name": "1.png"}],
        "annotations": annotations,
        "categories": categories,
    }


def test_one_wrong_class_lowers_what_it_should() -> None:
    """Four a and two b, of which the last a, scored in the middle, is called b.

    a: three of four are found without a false one: precision 1 up to recall 0.75, that is at 76 of the 101 recalls.
    b: of rank 1 is a true one, of rank 2 the wrong one, of rank 3 the other true one: precision 1 up to recall 0.5 (51 recalls), 2/3 beyond (50).
    """
    truth = scene(3, 3, 3, 3, 8, 8)
    rows = oracle(truth)
    for row, score in zip(rows, (0.9, 0.9, 0.9, 0.5, 0.8, 0.3), strict=True):
        row["score"] = score
    rows[3]["category_id"] = 8
    table = class_precision(truth, rows, {3: "a", 8: "b"}, "own")
    wanted = [76 / 101, (51 + 50 * 2 / 3) / 101]
    assert table == pytest.approx(np.tile(wanted, (10, 1)), abs=1e-9)
    assert mean_over_classes(at_thresholds(table))["AP"] == pytest.approx(sum(wanted) / 2)
    rows[3]["score"] = 0.1  # behind all of b: only a, which misses it, pays
    assert class_precision(truth, rows, {3: "a", 8: "b"}, "own") == pytest.approx(
        np.tile([76 / 101, 1.0], (10, 1))
    )


def test_the_iou_that_is_asked_for() -> None:
    truth = scene(3)
    mask = decode_mask(truth["annotations"][0]["segmentation"])
    mask[4:6] = True  # 32 of 48 pixels: 2/3
    rows = [oracle(truth)[0] | {"segmentation": encode_mask(mask)}]
    columns = at_thresholds(class_precision(truth, rows, {3: "a", 8: "b"}, "own"))
    assert (columns["APr50"][0], columns["APr70"][0]) == pytest.approx((1.0, 0.0)) and columns["AP"][
        0
    ] == pytest.approx(0.4)
    assert np.isnan(columns["AP"][1]), "a class without an object has no figure"


def test_void_is_of_no_class_and_a_mask_on_nothing_else_is_none() -> None:
    truth = scene(3, 8)
    void = np.zeros((40, 8), dtype=bool)
    void[2:4], void[8:20] = True, True
    border = {
        "id": 9,
        "image_id": 1,
        "category_id": 3,
        "iscrowd": 1,
        "void": True,
        "area": float(void.sum()),
        "segmentation": encode_mask(void),
    }
    truth["annotations"][0]["segmentation"] = encode_mask(
        decode_mask(truth["annotations"][0]["segmentation"]) & ~void
    )
    truth["annotations"].append(border)
    first, second = oracle(truth)
    spread = first | {"segmentation": encode_mask(decode_mask(first["segmentation"]) | void)}
    on_void = second | {"segmentation": encode_mask(void), "score": 0.95}
    table = class_precision(truth, [spread, second, on_void], {3: "a", 8: "b"}, "own")
    assert table == pytest.approx(np.ones((10, 2))), (
        "the void is taken out of the first, and nothing is left of the third"
    )
    # a mask of the other class on the same void, as a crowd of class 3 would not absorb it
    half = on_void | {
        "segmentation": encode_mask(void | decode_mask(truth["annotations"][1]["segmentation"])),
        "category_id": 3,
    }
    assert class_precision(truth, [spread, second, half], {3: "a", 8: "b"}, "own")[0] == pytest.approx(
        [0.5, 1.0]
    )


def test_rows_without_a_class_are_refused(truth: dict) -> None:
    rows = oracle(truth)
    rows[2] = {key: value for key, value in rows[2].items() if key != "category_id"}
    with pytest.raises(UserError, match="category_id of result 2 .image 2. must be given, got nothing"):
        class_precision(truth, rows, CATEGORIES, "own")
    rows[2]["category_id"] = 77
    with pytest.raises(UserError, match="must be listed by the truth: .*, got 77"):
        class_precision(truth, rows, CATEGORIES, "own")


@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
def test_whole_floats_as_ids_and_two_ids_of_one_name(backend: str) -> None:
    truth = scene(3, 3, 8, 8, 3)
    truth["categories"] = [{"id": 8, "name": "a"}, {"id": 3, "name": "a"}]
    rows = [row | {"image_id": 1.0, "category_id": float(row["category_id"])} for row in oracle(truth)]
    assert class_precision(truth, rows, {3: "a", 8: "a"}, backend) == pytest.approx(1.0)
