"""Figures of made annotations, and what is found in them."""

import json
import time

import numpy as np
import pytest

from rpe.tools.doctor.annotation import examine_annotations, list_categories, report_some, summarise_range


def square(number: int, image: int, left: float, side: float, category: int = 1, **change: object) -> dict:
    ring = [left, 2, left + side, 2, left + side, 2 + side, left, 2 + side]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": [ring],
        "area": side * side,
        "iscrowd": 0,
    } | change


def truth_of(*annotations: dict, images: int = 2) -> dict:
    return {
        "images": [{"id": number + 1, "height": 60, "width": 80 + number} for number in range(images)],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def test_the_figures() -> None:
    truth = truth_of(
        square(1, 1, 2, 10),
        square(2, 1, 20, 40, 2),
        square(3, 1, 60, 6, iscrowd=1),
        square(4, 1, 70, 5, iscrowd=1, void=True),
    )
    rows = examine_annotations(truth).rows
    assert (
        rows["images"] == "2"
        and rows[".. without an object"] == "1"
        and rows["objects"] == "2"
        and rows["crowds"] == "1"
    )
    assert (
        rows["width"] == "80 / 80 / 81"
        and rows[".. an image"] == "0 / 1 / 2"
        and rows[".. area in pixels"] == "100 / 850 / 1,600"
    )
    assert rows[".. small / medium / large"] == "50% / 50% / 0%"
    assert examine_annotations(truth).findings == []
    assert list_categories({"train": truth, "val": truth_of(square(1, 1, 2, 3, 2))}) == [
        "dog: 1 / 1",
        "cat: 1 / 0",
    ]
    assert examine_annotations(truth_of()).rows[".. area in pixels"] == "-"


def test_what_is_rarely_meant() -> None:
    truth = truth_of(
        square(1, 1, 2, 10),
        square(2, 1, 2.4, 10, 2),
        square(3, 2, 2, 10),
        square(7, 2, 30, 10, area=1),
        square(8, 2, 50, 0.1),
    )
    truth["categories"] += [{"id": 3, "name": "cat"}]
    assert examine_annotations(truth).findings == [
        "1 annotations whose area field is far from their mask: 7",
        "1 masks without a pixel: 8",
        "1 pairs of masks in an image with IoU 0.9 or more (drawn twice?): 1 and 2 (image 1)",
        "1 names that several categories bear: cat",
        "1 categories without an object: cat",
    ]


def test_many_masks_in_one_image() -> None:
    truth = truth_of(*(square(number, 1, number % 70, 4 + number // 70) for number in range(400)))
    assert examine_annotations(truth).rows["objects"] == "400", (
        "pycocotools counts the areas of a list only up to 255"
    )


def test_lists_are_cut_short() -> None:
    assert (
        report_some([], "things") == []
        and report_some("abcd", "things") == ["4 things: a, b, c .."]
        and summarise_range([]) == "-"
    )


@pytest.mark.slow
def test_a_hundred_thousand_annotations_take_seconds() -> None:
    random = np.random.default_rng(0)
    truth = truth_of(
        *(
            square(number, 1 + number % 10_000, float(random.uniform(0, 60)), float(random.uniform(4, 18)))
            for number in range(100_000)
        ),
        images=10_000,
    )
    started = time.process_time()
    assert examine_annotations(json.loads(json.dumps(truth))).rows["objects"] == "100,000"
    assert time.process_time() - started < 60
