"""One scene, six images with polygons, as COCO polygons and run lengths, VOC's PNG, label PNG and TIFF, a mask an object, YOLO's text, labelme's JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from miniature_voc import write_list, write_palette, write_picture
from PIL import Image
from pycocotools import mask as coco_mask

SPLITS = {"train": range(0, 3), "val": range(3, 6)}
CLASSES = ["cat", "dog"]
VOC_CLASS = {"cat": 8, "dog": 12}
Polygon = list[float]
Scene = list[list[tuple[str, Polygon]]]
"""Of each image the class and corners x, y, x, y, .. of its objects."""


def size_of(image: int) -> tuple[int, int]:
    return 48 + 8 * (image % 3), 64


def pixels_of(image: int) -> np.ndarray:
    return np.random.default_rng(image).integers(0, 256, size=(*size_of(image), 3), dtype=np.uint8)


def make_scene() -> Scene:
    """Rectangles, triangles and a slanted form with corners between the pixels; none overlaps another."""
    scene: Scene = []
    for image in range(6):
        shift = float(image)
        scene.append(
            [
                ("cat", [2 + shift, 3, 20 + shift, 3, 20 + shift, 15, 2 + shift, 15]),
                ("dog", [30.3, 4.7, 55.2, 4.7 + shift, 40.1, 22.4]),
                ("cat", [5.5, 20.25, 25.5, 24.5, 18.75, 44.5, 6.5, 40.75]),
                ("dog", [34, 30, 60, 30, 60, 46, 34, 46]),
            ][: 4 - image % 2]
        )
    return scene


def mask_of(polygon: Polygon, size: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([polygon], *size))).astype(bool)


def labels_of(
    objects: list[tuple[str, Polygon]], size: tuple[int, int], largest_first: bool = True
) -> np.ndarray:
    """Numbered as our reader numbers them, the largest first."""
    masks = [mask_of(polygon, size) for _, polygon in objects]
    labels = np.zeros(size, dtype=np.int64)
    order = (
        sorted(range(len(masks)), key=lambda place: -masks[place].sum())
        if largest_first
        else range(len(masks))
    )
    for number, place in enumerate(order, start=1):
        assert not labels[masks[place]].any()
        labels[masks[place]] = number
    return labels


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def write_coco(root: Path, scene: Scene, run_lengths: bool) -> None:
    for split, numbers in SPLITS.items():
        images, annotations = [], []
        for image in numbers:
            height, width = size_of(image)
            save(root / split / f"{image}.png", pixels_of(image))
            images.append(
                {"id": image % 3 + 1, "file_name": f"{image}.png", "height": height, "width": width}
            )
            for name, polygon in scene[image]:
                code = coco_mask.merge(coco_mask.frPyObjects([polygon], height, width))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image % 3 + 1,
                        "category_id": 1 + CLASSES.index(name),
                        "iscrowd": 0,
                        "area": int(coco_mask.area(code)),
                        "bbox": coco_mask.toBbox(code).tolist(),
                        "segmentation": {"size": [height, width], "counts": code["counts"].decode()}
                        if run_lengths
                        else [polygon],
                    }
                )
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
        (root / "annotations").mkdir(exist_ok=True)
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_voc_png(root: Path, scene: Scene) -> None:
    folder = root / "VOCdevkit" / "VOC2012"
    for split, numbers in SPLITS.items():
        write_list(
            folder / "ImageSets" / "Segmentation" / f"{split}.txt",
            [f"2008_00000{image}" for image in numbers],
        )
        for image in numbers:
            objects = labels_of(scene[image], size_of(image), largest_first=False)
            class_of = np.array([0] + [VOC_CLASS[name] for name, _ in scene[image]])
            write_picture(folder / "JPEGImages" / f"2008_00000{image}.jpg", pixels_of(image))
            write_palette(folder / "SegmentationObject" / f"2008_00000{image}.png", objects.astype(np.uint8))
            write_palette(
                folder / "SegmentationClass" / f"2008_00000{image}.png", class_of[objects].astype(np.uint8)
            )


def write_stardist(root: Path, scene: Scene) -> None:
    """images/ and masks/ with TIFF label maps of 16 bits whose numbers have gaps."""
    for split, numbers in SPLITS.items():
        for image in numbers:
            labels = labels_of(scene[image], size_of(image))
            save(root / split / "images" / f"{image}.tif", pixels_of(image))
            save(root / split / "masks" / f"{image}.tif", (labels * 300).astype(np.uint16))


def write_cellpose(root: Path, scene: Scene) -> None:
    """Image and label map in one folder, as PNG of 8 bits."""
    for split, numbers in SPLITS.items():
        for image in numbers:
            save(root / split / f"{image}_img.png", pixels_of(image))
            save(
                root / split / f"{image}_masks.png", labels_of(scene[image], size_of(image)).astype(np.uint8)
            )
            (root / split / f"{image}_cp_outlines.txt").write_text("1,2,3,4\n")


def write_dsb(root: Path, scene: Scene) -> None:
    """A folder an image, a mask file an object."""
    for split, numbers in SPLITS.items():
        for image in numbers:
            save(root / split / f"id{image}" / "images" / f"id{image}.png", pixels_of(image))
            for place, (_, polygon) in enumerate(scene[image]):
                mask = mask_of(polygon, size_of(image))
                save(root / split / f"id{image}" / "masks" / f"{place}.png", (255 * mask).astype(np.uint8))


def write_yolo(root: Path, scene: Scene) -> None:
    """images/<split> and labels/<split>, the names in data.yaml."""
    for split, numbers in SPLITS.items():
        for image in numbers:
            height, width = size_of(image)
            save(root / "images" / split / f"{image}.png", pixels_of(image))
            lines = []
            for name, polygon in scene[image]:
                shares = [value / (height if place % 2 else width) for place, value in enumerate(polygon)]
                lines.append(" ".join(map(str, [CLASSES.index(name), *shares])))
            file = root / "labels" / split / f"{image}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")


def write_labelme(root: Path, scene: Scene) -> None:
    """Image and JSON in one folder; the first object is a rectangle of two corners."""
    for split, numbers in SPLITS.items():
        for image in numbers:
            height, width = size_of(image)
            save(root / split / f"{image}.png", pixels_of(image))
            shapes = []
            for place, (name, polygon) in enumerate(scene[image]):
                points = np.array(polygon).reshape(-1, 2).tolist()
                kind = "polygon" if place else "rectangle"
                points = points if place else [points[2], points[0]]
                shapes.append(
                    {"label": name, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
                )
            content = {"version": "5.4.1", "shapes": shapes, "imagePath": f"{image}.png", "imageData": None}
            (root / split / f"{image}.json").write_text(
                json.dumps(content | {"imageHeight": height, "imageWidth": width})
            )


FORMS: dict[str, tuple[str, Callable[[Path, Scene], None]]] = {
    "COCO polygons": ("coco", lambda root, scene: write_coco(root, scene, False)),
    "COCO run lengths": ("coco", lambda root, scene: write_coco(root, scene, True)),
    "VOC PNG": ("voc", write_voc_png),
    "label PNG": ("folder", write_cellpose),
    "label TIFF": ("folder", write_stardist),
    "mask an object": ("folder", write_dsb),
    "YOLO": ("folder", write_yolo),
    "labelme": ("folder", write_labelme),
}
"""Data module and writer of each form."""
