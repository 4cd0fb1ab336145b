"""What became of each image's objects: by hand, and against the definitions taken one object at a time."""

import csv

import numpy as np

from rpe.metric.per_image import ImageRow, image_row, images_csv, record_images

IMAGE = {"id": 7, "file_name": "a.png", "height": 20, "width": 40}


def painted(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Labels 1, 2, .. at (top, left, height, width)."""
    labels = np.zeros((20, 40), dtype=np.int64)
    for number, (top, left, height, width) in enumerate(boxes, start=1):
        labels[top : top + height, left : left + width] = number
    return labels


def row(truth: np.ndarray, prediction: np.ndarray) -> ImageRow:
    return image_row(IMAGE, 9, truth, prediction)


def test_one_object_of_each_kind() -> None:
    # matched, split in three, two merged, missed
    truth = painted((0, 0, 6, 6), (0, 10, 6, 12), (10, 0, 6, 6), (10, 8, 6, 6), (0, 30, 6, 6))
    prediction = painted(
        (0, 0, 6, 5), (0, 10, 6, 4), (0, 14, 6, 4), (0, 18, 6, 4), (10, 0, 6, 14), (15, 30, 3, 3)
    )
    assert row(truth, prediction) == ImageRow(
        7, "a.png", 5, 9, 6, matched=1, missed=4, extra=5, split=1, merged=2, AP50=0.1
    )


def test_pieces_of_an_object_that_is_matched_or_mostly_bare_do_not_split_it() -> None:
    truth = painted((0, 0, 10, 10))
    assert row(truth, painted((0, 0, 10, 6), (0, 6, 10, 4))).split == 0, "the larger piece matches"
    assert row(truth, painted((0, 0, 10, 4), (0, 4, 10, 4))).split == 1
    assert row(truth, painted((0, 0, 5, 4), (5, 0, 5, 4))).split == 0, "six tenths are left"
    assert row(truth, painted((0, 0, 10, 4), (0, 6, 10, 12))).split == 0, "the other lies mostly outside"


def test_a_clump_that_matches_its_largest_object_still_merges() -> None:
    found = row(painted((0, 0, 10, 10), (0, 10, 10, 2)), painted((0, 0, 10, 12)))
    assert (found.matched, found.missed, found.merged, found.extra) == (1, 1, 2, 0)


def test_void_is_nobodys_and_an_empty_image_has_no_precision() -> None:
    truth = painted((0, 0, 6, 6))
    truth[10:] = -1
    assert row(truth, painted((0, 0, 6, 6), (12, 0, 6, 6))).extra == 0
    assert row(painted(), painted()).AP50 is None and row(painted(), painted((0, 0, 2, 2))).AP50 == 0


def test_random_images_against_the_definitions() -> None:
    generator = np.random.default_rng(0)
    kinds = np.zeros(2, dtype=int)
    for _ in range(60):
        truth, prediction = (
            np.kron(generator.integers(0, 5, (4, 4)), np.ones((5, 10), dtype=np.int64)) for _ in range(2)
        )
        wanted, same = by_definition(truth, prediction), row(truth, prediction)
        assert (same.matched, same.split, same.merged) == wanted
        kinds += np.array(wanted[1:]) > 0
    assert kinds.min() > 3, "both kinds were there"


def by_definition(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, int, int]:
    objects = [truth == label for label in np.unique(truth[truth > 0])]
    masks = [prediction == label for label in np.unique(prediction[prediction > 0])]
    matched, split, merged = 0, 0, set()
    for one in objects:
        hit = any(2 * (one & mask).sum() >= (one | mask).sum() for mask in masks)
        pieces = [one & mask for mask in masks if 2 * (one & mask).sum() > mask.sum()]
        matched += hit
        split += not hit and len(pieces) > 1 and 2 * sum(piece.sum() for piece in pieces) > one.sum()
    for mask in masks:
        inside = [number for number, one in enumerate(objects) if 2 * (one & mask).sum() > one.sum()]
        merged |= set(inside) if len(inside) > 1 else set()
    return matched, split, len(merged)


def test_the_table_begins_with_the_worst_image() -> None:
    truth = {
        "images": [
            {**IMAGE, "id": number, "file_name": name}
            for number, name in enumerate(("empty", "good", "bad", 'worse, "ä"'))
        ]
    }
    one, two = painted((0, 0, 6, 6)), painted((0, 0, 6, 6), (10, 0, 6, 6))
    pairs = [(painted(), painted()), (one, one), (one, painted()), (two, painted())]
    rows: list[ImageRow] = []
    passed = list(record_images(truth, [{"image_id": 1}, {"image_id": 1}], pairs, rows))
    assert all(given is taken for given, taken in zip(pairs, passed, strict=True)), (
        "label maps pass as they are"
    )
    table = list(csv.DictReader(images_csv(rows).splitlines()))
    assert [line["file_name"] for line in table] == ['worse, "ä"', "bad", "good", "empty"]
    assert table[2]["proposals"] == "2" and table[2]["AP50"] == "1.0000" and table[3]["AP50"] == ""
