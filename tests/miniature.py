"""A dataset of four images a split in COCO's layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask


def polygon(row: int, column: int, height: int, width: int) -> list[list[float]]:
    top, left, bottom, right = row, column, row + height, column + width
    return [[left, top, right, top, right, bottom, left, bottom]]


def uncompressed(mask: np.ndarray) -> dict[str, object]:
    flat = mask.flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + counts}


def write_miniature(root: Path, years: str = "2017") -> Path:
    """Four images a split in COCO's layout: polygons, both run lengths, a crowd, overlapping objects, an image without any; two categories."""
    random = np.random.default_rng(0)
    for offset, split in ((0, "train"), (100, "val")):
        folder = root / f"{split}{years}"
        folder.mkdir(parents=True)
        images, annotations = [], []

        def add(
            image_id: int, code: object, area: float, category: int, crowd: int = 0, to: list = annotations
        ) -> None:
            to.append(
                {
                    "id": len(to) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": code,
                    "area": area,
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": crowd,
                }
            )

        for number in range(4):
            image_id, height, width = offset + number + 1, 48 + 8 * number, 64
            pixels = random.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
            boxes = [(4, 4, 20, 24), (10, 12, 8, 8), (28, 40, 16, 20)] if number != 3 else []
            for index, (row, column, tall, wide) in enumerate(boxes):
                pixels[row : row + tall, column : column + wide, index] = 220
                mask = np.zeros((height, width), dtype=np.uint8)
                mask[row : row + tall, column : column + wide] = 1
                encoded = coco_mask.encode(np.asfortranarray(mask))
                code = [
                    polygon(row, column, tall, wide),
                    uncompressed(mask),
                    {"size": [height, width], "counts": encoded["counts"].decode()},
                ][index]
                add(image_id, code, float(mask.sum()), 1 + index % 2)
            if number == 1:
                crowd = np.zeros((height, width), dtype=np.uint8)
                crowd[:6, 40:] = 1
                add(image_id, uncompressed(crowd), float(crowd.sum()), 1, crowd=1)
            Image.fromarray(pixels).save(folder / f"{image_id:012d}.png")
            images.append(
                {"id": image_id, "file_name": f"{image_id:012d}.png", "height": height, "width": width}
            )
        categories = [{"id": 1, "name": "box"}, {"id": 2, "name": "brick"}]
        file = root / "annotations" / f"instances_{split}{years}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return root
