import numpy as np
import pytest
from object_count import recall_by_object_count

from rpe.rle import encode_mask


def box(top: int, left: int, bottom: int, right: int) -> dict:
    mask = np.zeros((40, 40), dtype=bool)
    mask[top:bottom, left:right] = True
    return encode_mask(mask)


# one object alone, two apart, three of which two are neighbours with one pixel between their boxes
SCENES = {
    1: [box(0, 0, 10, 10)],
    2: [box(0, 0, 10, 10), box(20, 20, 30, 30)],
    3: [box(0, 0, 10, 10), box(0, 11, 10, 20), box(30, 30, 40, 40)],
}


def truth() -> dict:
    annotations = [
        {
            "id": 10 * image + k,
            "image_id": image,
            "category_id": 1,
            "iscrowd": 0,
            "area": 100,
            "segmentation": mask,
        }
        for image, masks in SCENES.items()
        for k, mask in enumerate(masks)
    ]
    crowd = {
        "id": 99,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 1,
        "area": 25,
        "segmentation": box(35, 35, 40, 40),
    }
    images = [{"id": image, "height": 40, "width": 40, "file_name": f"{image}.png"} for image in SCENES]
    return {"images": images, "annotations": [*annotations, crowd], "categories": [{"id": 1, "name": "box"}]}


def row(image: int, mask: dict, score: float = 1.0) -> dict:
    return {"image_id": image, "category_id": 1, "segmentation": mask, "score": score}


def test_each_subset_is_counted_by_hand() -> None:
    results = [
        row(1, SCENES[1][0]),
        row(2, SCENES[2][0]),
        row(3, SCENES[3][0]),
        row(3, box(0, 11, 6, 20), 0.5),
    ]
    found = recall_by_object_count(truth(), results)
    # the last mask has an IoU of 0.6 with its object: recalled at 0.5, 0.55 and 0.6, 3 of 10 thresholds
    wanted = {
        "AR@10-1-object": 1.0,
        "AR@10-2-objects": 0.5,
        "AR@10-3+-objects": (1 + 0.3) / 3,
        "AR@10-2+-objects": (1 + 1 + 0.3) / 5,
        "AR@10-touching": (1 + 0.3) / 2,
        "recall50@10-touching": 1.0,
    }
    assert found == pytest.approx(wanted)


def test_masks_beyond_the_tenth_do_not_count_and_empty_subsets_are_left_out() -> None:
    only = {
        **truth(),
        "images": truth()["images"][:1],
        "annotations": [a for a in truth()["annotations"] if a["image_id"] == 1],
    }
    wrong = [row(1, box(20, k, 25, k + 5), 1.0) for k in range(10)]
    assert recall_by_object_count(only, [*wrong, row(1, SCENES[1][0], 0.5)]) == {"AR@10-1-object": 0.0}
    assert recall_by_object_count(only, [*wrong[1:], row(1, SCENES[1][0], 0.5)]) == {"AR@10-1-object": 1.0}
    nothing = {**only, "annotations": []}
    assert recall_by_object_count(nothing, wrong) == {}
