"""Read masks of common tools: label maps, a mask for each object, YOLO's text, labelme's JSON."""

import base64
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from jaxtyping import Int64
from PIL import Image

from rpe.data.annotation_check import check_mask
from rpe.data.image import decode, open_image
from rpe.data.pixels import check_single
from rpe.rle import compress, encode_labels, encode_mask, merge_masks
from rpe.structures import RunLength, UserError

OBJECT = "object"
"""The only category of formats without names."""

LOSSY = (".jpg", ".jpeg")

CIRCLE_CORNERS = 64

Size = tuple[int, int]


class MaskObject(NamedTuple):
    """An object: its category's name (None: void), its mask, and its position in the file, for messages."""

    name: str | None
    mask: RunLength
    where: str


class ImageObjects(NamedTuple):
    """An image's objects, and the (height, width) of their masks. `binary`: the file is a foreground mask."""

    size: Size
    objects: list[MaskObject]
    binary: bool = False


def read_pixels(file: Path) -> np.ndarray:
    """Return the values [height, width] of a mask file. Channels of a colour image must be equal.

    Raises:
        UserError: it is broken, has several pages or colours, or is a JPEG.
    """
    if file.suffix.lower() in LOSSY:
        raise UserError(
            f"mask {file} must be PNG or TIFF, got JPEG, which changes values. Export the masks anew."
        )
    with open_image(file) as image:
        check_single(image, file)
        pixels = decode(image, file)
        if image.mode in ("LA", "RGBA", "RGB"):
            channels = pixels[..., : 1 if image.mode == "LA" else 3]
            if (channels != channels[..., :1]).any():
                raise UserError(
                    f"mask {file} must have one channel of object numbers, got colours ({image.mode}). "
                    "Save it as grey PNG or TIFF."
                )
            pixels = channels[..., 0]
    if pixels.ndim != 2:
        raise UserError(
            f"mask {file} must have one channel of object numbers, got the shape {list(pixels.shape)}. "
            "Save it as grey PNG or TIFF."
        )
    return pixels


def read_label_map(file: Path, void: int | None) -> ImageObjects:
    """Return the objects of a label map. 0 is the background, `void` the value that means void.

    Raises:
        UserError: `read_pixels` refuses it, or values are not integers >= 0.
    """
    pixels = read_pixels(file)
    whole = np.isfinite(pixels).all() and (pixels == np.rint(pixels)).all()
    if not whole or pixels.min() < 0 or pixels.max() >= 2**53:
        raise UserError(
            f"mask {file} must hold integers >= 0, got {pixels.min():g} to {pixels.max():g}. "
            "Save object numbers 1, 2, .."
        )
    labels: Int64[np.ndarray, "height width"] = pixels.astype(np.int64)
    values = np.unique(labels)
    numbers = values[values > 0]
    binary = pixels.dtype == bool or (set(values.tolist()) == {0, 255} and void != 255)
    masks = encode_labels(labels, numbers)
    found = [
        MaskObject(None if number == void else OBJECT, mask, f"object {number} of {file}")
        for number, mask in zip(numbers.tolist(), masks, strict=True)
    ]
    return ImageObjects((labels.shape[0], labels.shape[1]), found, binary)


def read_object_masks(files: Sequence[Path]) -> ImageObjects:
    """Return the objects of an image with a mask file for each. Pixels other than 0 belong to the object.

    Raises:
        UserError: `read_pixels` refuses a file, or sizes differ.
    """
    found: list[MaskObject] = []
    for file in files:
        mask = encode_mask(read_pixels(file) != 0)
        if found and mask["size"] != found[0].mask["size"]:
            raise UserError(
                f"mask {file} must have the size of its image's other masks, {found[0].mask['size']}, "
                f"got {mask['size']} (height, width). Export the masks anew."
            )
        found.append(MaskObject(OBJECT, mask, str(file)))
    height, width = found[0].mask["size"]
    return ImageObjects((height, width), found)


def read_yolo(file: Path | None, size: Size, names: Sequence[str] | None) -> ImageObjects:
    """Return the objects of YOLO's segmentation text: class, and corners as fractions of width and height.

    Args:
        file: None for an image without a file, which has no object.
        size: (height, width) of the image.
        names: of class 0, 1, ..; None for a dataset without names.

    Raises:
        UserError: naming the wrong line.
    """
    found: list[MaskObject] = []
    for number, line in enumerate(read_text(file).splitlines() if file is not None else [], start=1):
        if not line.strip():
            continue
        where = f"line {number} of {file}"
        try:
            values = [float(word) for word in line.split()]
        except ValueError as error:
            raise UserError(
                f"{where} must hold numbers, got {line[:60]!r}. Export the labels anew as YOLO segmentation."
            ) from error
        if len(values) == 5:
            raise UserError(
                f"{where} must hold a class and 3 or more corners, got a box. "
                "Export masks (YOLO segmentation), not boxes."
            )
        kind, corners = values[0], values[1:]
        if not (kind >= 0 and kind.is_integer()) or (names is not None and kind >= len(names)):
            known = "an integer >= 0" if names is None else f"0 to {len(names) - 1} (the dataset's names)"
            raise UserError(
                f"{where} must begin with the class, {known}, got {kind:g}. "
                "Correct the line or the list of names."
            )
        if not all(-1 <= corner <= 2 for corner in corners):
            raise UserError(
                f"{where} must hold corners as fractions of width and height, got {max(corners, key=abs):g}. "
                "Divide pixels by them."
            )
        scaled = [corner * size[1 - index % 2] for index, corner in enumerate(corners)]
        name = f"class {kind:.0f}" if names is None else names[int(kind)]
        found.append(MaskObject(name, fill_polygons([scaled], size, where), where))
    return ImageObjects(size, found)


def read_labelme(file: Path, size: Size) -> ImageObjects:
    """Return the objects of a labelme file. One label and group_id is one object, `__ignore__` is void.

    Args:
        file: of one image.
        size: (height, width) of the image as stored. The size in the file may be that of the upright image.

    Raises:
        UserError: naming the wrong shape.
    """
    text = read_text(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} must be JSON as labelme writes it, got {error}. Save it anew.") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UserError(
            f"{file} must be JSON as labelme writes it, got no list of shapes. Move other files away."
        )
    height, width = (
        content.get(key) or length for key, length in zip(("imageHeight", "imageWidth"), size, strict=True)
    )
    if (height, width) not in (size, size[::-1]):
        raise UserError(
            f"{file} must have its image's size, {size[0]} x {size[1]} (height x width), got {height} x "
            f"{width}. Check that it belongs to this image."
        )
    parts: dict[tuple[str, Any], list[MaskObject]] = {}
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"shape {number} of {file}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"]:
            raise UserError(f"{where} must have a label, got {str(shape)[:60]}. Save it anew.")
        group = shape.get("group_id")
        mask = draw_shape(shape, (height, width), where)
        parts.setdefault((shape["label"], f"alone {number}" if group is None else str(group)), []).append(
            MaskObject(shape["label"], mask, where)
        )
    return ImageObjects((height, width), [merge_parts(objects) for objects in parts.values()])


def merge_parts(parts: list[MaskObject]) -> MaskObject:
    """Merge the parts of an object."""
    name = None if parts[0].name == "__ignore__" else parts[0].name
    return MaskObject(
        name,
        merge_masks([part.mask for part in parts]),
        parts[0].where,
    )


def draw_shape(shape: dict[str, Any], size: Size, where: str) -> RunLength:
    """Return the mask of a labelme polygon, rectangle, circle or mask.

    Raises:
        UserError: a shape without an area, or wrong points.
    """
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    try:
        corners = np.array(points, dtype=np.float64).reshape(-1, 2)
        round(corners.sum())  # raises for numbers that are not finite
        first, second, *more = corners
        if kind in ("rectangle", "circle") and more:
            raise ValueError(kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{where} must have the points of a {kind}, got {str(points)[:60]}. Draw it anew."
        ) from error
    if kind == "mask":
        return decode_png_mask(shape.get("mask"), first, size, where)
    if kind == "rectangle":
        corners = np.array([first, (second[0], first[1]), second, (first[0], second[1])])
    elif kind == "circle":
        angles = np.linspace(0, 2 * math.pi, CIRCLE_CORNERS, endpoint=False)
        corners = first + math.dist(first, second) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind not in ("polygon", "oriented_rectangle"):
        raise UserError(
            f"{where} must be a polygon, rectangle, circle or mask, got a {kind}. Remove or redraw it."
        )
    return fill_polygons([corners.ravel().tolist()], size, where)


def decode_png_mask(text: Any, corner: np.ndarray, size: Size, where: str) -> RunLength:
    """Decode labelme's mask: a PNG in base64, whose first pixel lies at the corner (x, y).

    Raises:
        UserError: the text is not such a mask.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            part = np.array(image.convert("L")) > 0
    except Exception as error:  # Pillow raises errors of many kinds for broken data
        raise UserError(
            f"{where} must hold its mask as PNG in base64, got {str(text)[:20]!r} ... Draw it anew."
        ) from error
    left, top = (round(value) for value in corner)
    whole = np.zeros(size, dtype=bool)
    inside = whole[max(0, top) : max(0, top + part.shape[0]), max(0, left) : max(0, left + part.shape[1])]
    inside |= part[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]]
    return encode_mask(whole)


def fill_polygons(rings: list[list[float]], size: Size, where: str) -> RunLength:
    """Return the mask of polygons [x, y, x, y, ..] in pixels, filled as pycocotools fills them."""
    check_mask({"segmentation": rings, "image_id": "of this file"}, size, where)
    return compress(rings, size)


def read_text(file: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} must be text in UTF-8, got {error.reason}. Save it anew.") from error


def find_class_names(folders: Sequence[Path]) -> list[str] | None:
    """Return YOLO's class names from the first data.yaml or classes.txt that lists them, or None."""
    return next(iterate_class_names(folders), None)


def iterate_class_names(folders: Sequence[Path]) -> Iterator[list[str]]:
    """Yield each list of names that the folders hold.

    Raises:
        UserError: a file of names is not YAML.
    """
    for folder in folders:
        for file in sorted(folder.glob("*.y*ml")):
            try:
                content = yaml.safe_load(read_text(file))
            except yaml.YAMLError as error:
                raise UserError(
                    f"{file} must be YAML, got {' '.join(str(error).split())[:80]}. Correct it."
                ) from error
            names = content.get("names") if isinstance(content, dict) else None
            if isinstance(names, dict) and sorted(names) == list(range(len(names))):
                names = [names[number] for number in sorted(names)]
            if isinstance(names, list):
                yield [str(name) for name in names]
        if (folder / "classes.txt").is_file():
            yield read_text(folder / "classes.txt").strip().splitlines()
