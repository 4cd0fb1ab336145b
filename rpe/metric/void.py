"""Pixels that nobody labelled, taken out of masks before these are compared with objects: VOC's void, which its devkit takes out likewise."""

from collections import defaultdict
from typing import Any

from pycocotools import mask as coco_mask

from rpe.metric.results import read_masks
from rpe.metric.run_length import compressed
from rpe.structures import RunLength


def known_areas(truth: dict[str, Any]) -> dict[int, RunLength]:
    """By image id all that is not void, of the images that have void: of crowds that say `"void": True`.

    Other crowds stay in: as in pycocotools they absorb masks, and their pixels count.
    """
    voids: dict[int, list[Any]] = defaultdict(list)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    for annotation in truth["annotations"]:
        if annotation.get("void", False) and annotation.get("iscrowd", 0):
            voids[annotation["image_id"]].append(
                compressed(annotation["segmentation"], sizes[annotation["image_id"]])
            )
    known = {}
    for image, masks in voids.items():
        void = coco_mask.decode(coco_mask.merge(masks))
        known[image] = coco_mask.encode(1 - void)
    return known


def without_void(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results whose rows `check_rows` let pass, their masks without the pixels that are void; nothing else changes, order and number neither.

    Raises:
        UserError: a mask in an image with void is broken.
    """
    known = known_areas(truth)
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
            mask = compressed(results[row]["segmentation"], results[row]["segmentation"]["size"])
            rest = coco_mask.merge([mask, known[image]], intersect=True)
            cleared[row] = results[row] | {
                "segmentation": {"size": list(rest["size"]), "counts": rest["counts"].decode()}
            }
    return cleared
