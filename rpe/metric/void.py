"""Remove unlabelled pixels (void) from masks before comparing these with objects, as VOC's devkit does."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rpe.metric.results import read_masks
from rpe.rle import compress, decode_mask, encode_mask, merge_masks
from rpe.structures import RunLength


def find_known_areas(truth: dict[str, Any]) -> dict[int, RunLength]:
    """Return, by image id, the mask of all pixels that are not void; only for images with void.

    Void are the crowds with `"void": True`. Other crowds stay, as in pycocotools: they absorb masks.
    """
    voids: dict[int, list[Any]] = defaultdict(list)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for annotation in truth["annotations"]:
        if annotation.get("void", False) and annotation.get("iscrowd", 0):
            voids[annotation["image_id"]].append(
                compress(annotation["segmentation"], sizes[annotation["image_id"]])
            )
    known = {}
    for image, masks in voids.items():
        void = decode_mask(merge_masks(masks))
        known[image] = encode_mask(~void)
    return known


def remove_void(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the results with void pixels removed from their masks; order and number of rows do not change.

    Args:
        truth: in COCO format.
        results: rows that `check_rows` has accepted.

    Raises:
        UserError: a mask in an image with void is broken.
    """
    known = find_known_areas(truth)
    if not known:
        return results
    rows_of: dict[int, list[int]] = {image: [] for image in known}
    for row, result in enumerate(results):
        if result["image_id"] in known:
            rows_of[result["image_id"]].append(row)
    cleared = list(results)
    for image, rows in rows_of.items():
        read_masks(results, rows)
        for row in rows:
            mask = compress(results[row]["segmentation"], results[row]["segmentation"]["size"])
            cleared[row] = results[row] | {"segmentation": merge_masks([mask, known[image]], intersect=True)}
    return cleared
