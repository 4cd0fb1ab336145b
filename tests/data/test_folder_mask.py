"""What each form of masks holds, and what is no mask."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rpe.data.folder_mask import find_class_names, read_label_map, read_labelme, read_object_masks, read_yolo
from rpe.rle import decode_mask
from rpe.structures import UserError

SIZE = (20, 30)


def labels() -> np.ndarray:
    pixels = np.zeros(SIZE, dtype=np.int64)
    pixels[2:6, 3:9], pixels[10:18, 12:29] = 7, 200
    return pixels


def save(file: Path, pixels: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def masks(described) -> list[np.ndarray]:
    return [decode_mask(found.mask) for found in described.objects]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_label_maps_of_every_depth(tmp_path: Path, kind: type) -> None:
    many = np.where(labels() == 7, 250 if kind == np.uint8 else 300, labels())
    found = read_label_map(save(tmp_path / "a.tif", many.astype(kind)), None)
    assert found.size == SIZE and not found.binary
    wanted = [many == value for value in np.unique(many)[1:]]
    assert all((mask == other).all() for mask, other in zip(masks(found), wanted, strict=True))


def test_palettes_and_grey_in_colour_are_numbers_and_void_is_told(tmp_path: Path) -> None:
    image = Image.fromarray(labels().astype(np.uint8), mode="P")
    image.putpalette([1, 2, 3] * 256)
    image.save(tmp_path / "p.png")
    rgb = save(tmp_path / "rgb.png", labels().astype(np.uint8)[..., None].repeat(3, 2))
    alpha = save(tmp_path / "rgba.png", np.dstack([np.array(Image.open(rgb)), np.full(SIZE, 255, np.uint8)]))
    for file in (tmp_path / "p.png", rgb, alpha):
        assert [int(mask.sum()) for mask in masks(read_label_map(file, None))] == [24, 136], file
    assert [found.name for found in read_label_map(rgb, 200).objects] == ["object", None]
    assert read_label_map(save(tmp_path / "b.png", labels() > 0), None).binary
    foreground = save(tmp_path / "f.png", (255 * (labels() > 0)).astype(np.uint8))
    assert read_label_map(foreground, None).binary and not read_label_map(foreground, 255).binary


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("a.tif", labels() - 5.0, "must hold integers >= 0, got -5 to 195"),
        ("a.tif", labels() / 2, "must hold integers >= 0"),
        ("a.tif", np.where(labels() > 0, np.nan, 0), "must hold integers >= 0"),
        (
            "a.png",
            np.dstack([labels(), 2 * labels() % 256, labels()]),
            r"one channel of object numbers, got colours \(RGB\)",
        ),
        ("a.jpg", labels(), "must be PNG or TIFF, got JPEG"),
    ],
)
def test_what_is_no_label_map(tmp_path: Path, name: str, pixels: np.ndarray, message: str) -> None:
    save(tmp_path / name, pixels.astype(np.float32 if pixels.dtype.kind == "f" else np.uint8))
    with pytest.raises(UserError, match=message):
        read_label_map(tmp_path / name, None)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(labels().astype(np.uint8))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(UserError, match="must have one page, got 2 pages"):
        read_label_map(tmp_path / "a.tif", None)


def test_a_mask_an_object(tmp_path: Path) -> None:
    one = save(tmp_path / "1.png", (255 * (labels() == 7)).astype(np.uint8))
    other = save(tmp_path / "2.png", np.dstack([labels() == 200] * 3).astype(np.uint8))
    found = read_object_masks([one, other])
    assert [int(mask.sum()) for mask in masks(found)] == [24, 136] and found.size == SIZE
    wrong = save(tmp_path / "3.png", np.ones((3, 4), dtype=np.uint8))
    with pytest.raises(
        UserError, match=r"3.png must have the size of its image's other masks, \[20, 30\], got \[3, 4\]"
    ):
        read_object_masks([one, wrong])


def test_yolo(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\ufeff1 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n\n0 0.5 0.5 1 0.5 1 0.9 0.5 0.9 \n")
    found = read_yolo(file, SIZE, ["cat", "dog"])
    assert [part.name for part in found.objects] == ["dog", "cat"]
    assert (
        masks(found)[0][2:6, 3:9].all()
        and masks(found)[0].sum() == 24
        and masks(found)[1][10:18, 15:].all()
        and masks(found)[1].sum() == 120
    )
    assert [part.name for part in read_yolo(file, SIZE, None).objects] == ["class 1", "class 0"]
    assert read_yolo(None, SIZE, None).objects == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1 of .*a.txt must hold a class and 3 or more corners, got a box"),
        ("0 0.5 0.5 0.2", "polygon of line 1 of"),
        ("0 0.5 0.5 0.2 0.2 0.3 0.4 0.5", "polygon of line 1 of"),
        ("cat 0.1 0.1 0.3 0.1 0.3 0.3", "must hold numbers, got 'cat"),
        ("2 0.1 0.1 0.3 0.1 0.3 0.3", r"must begin with the class, 0 to 1 \(the dataset's names\), got 2"),
        ("0.5 0.1 0.1 0.3 0.1 0.3 0.3", "must begin with the class"),
        ("-1 0.1 0.1 0.3 0.1 0.3 0.3", "must begin with the class"),
        ("0 10 10 30 10 30 30", "as fractions of width and height, got 30. Divide pixels by them"),
        ("0 nan 0.1 0.3 0.1 0.3 0.3", "as fractions of width and height"),
    ],
)
def test_what_is_no_yolo(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(UserError, match=message):
        read_yolo(tmp_path / "a.txt", SIZE, ["cat", "dog"])


def test_the_names_of_yolo(tmp_path: Path) -> None:
    assert find_class_names([tmp_path]) is None
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n\n")
    assert find_class_names([tmp_path, tmp_path / "labels"]) == ["cat", "dog"]
    (tmp_path / "data.yaml").write_text("names: {1: dog, 0: 7}\nnc: 2\n")
    assert find_class_names([tmp_path, tmp_path / "labels"]) == ["7", "dog"]
    (tmp_path / "data.yaml").write_text("names: [")
    with pytest.raises(UserError, match="data.yaml must be YAML"):
        find_class_names([tmp_path])


def write_labelme(file: Path, *shapes: object, **change: object) -> Path:
    content = {"shapes": list(shapes), "imageHeight": SIZE[0], "imageWidth": SIZE[1]} | change
    file.write_text(json.dumps(content))
    return file


def shape(points: object, kind: object = "polygon", label: object = "cat", **more: object) -> dict:
    return {"label": label, "points": points, "shape_type": kind} | more


def test_labelme(tmp_path: Path) -> None:
    part = io.BytesIO()
    Image.fromarray(np.ones((4, 6), dtype=bool)).save(part, "PNG")
    pasted = {"mask": base64.b64encode(part.getvalue()).decode()}
    file = write_labelme(
        tmp_path / "a.json",
        shape([[3, 2], [9, 2], [9, 6], [3, 6]], group_id=4),
        shape([[29, 18], [12, 10]], "rectangle", "dog"),
        shape([[20, 2], [22, 2], [22, 4], [20, 4]], group_id=4),
        shape([[15, 6], [15, 9]], "circle"),
        shape([[-2, 17], [3, 20]], "mask", **pasted),
        shape([[26, 0], [30, 0], [30, 3]], label="__ignore__"),
    )
    found = read_labelme(file, SIZE)
    assert [part.name for part in found.objects] == ["cat", "dog", "cat", "cat", None]
    drawn = masks(found)
    assert drawn[0][2:6, 3:9].all() and drawn[0].sum() == 24 + 4, "one group_id is one object"
    assert drawn[1][10:18, 12:29].all() and drawn[1].sum() == 136
    assert abs(drawn[2].sum() - np.pi * 9) < 4 and drawn[2][5, 15]
    assert drawn[3][17:20, :4].all() and drawn[3].sum() == 12, "what lies outside is cut off"
    assert read_labelme(write_labelme(file, imageHeight=None), SIZE).size == SIZE
    assert read_labelme(write_labelme(file, imageHeight=30, imageWidth=20), SIZE).size == (30, 20), (
        "upright, where the file is not"
    )


TRIANGLE = [[1, 1], [5, 1], [5, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON as labelme writes it"),
        ("[" * 100_000, "must be JSON as labelme writes it"),
        ({"shapes": 3}, "got no list of shapes"),
        ({"images": []}, "got no list of shapes"),
        (
            {"shapes": [], "imageHeight": 99, "imageWidth": 30},
            "must have its image's size, 20 x 30 .*, got 99 x 30",
        ),
        ({"shapes": [{"points": TRIANGLE}]}, "shape 1 of .* must have a label"),
        (
            {"shapes": [shape(TRIANGLE), shape(TRIANGLE[:2], "line")]},
            "shape 2 of .* must be a polygon, .*, got a line",
        ),
        ({"shapes": [shape("abc")]}, "must have the points of a polygon, got abc"),
        ({"shapes": [shape(TRIANGLE, "circle")]}, "must have the points of a circle"),
        ({"shapes": [shape(TRIANGLE[:2])]}, "polygon of shape 1 of"),
        (
            {"shapes": [shape([[1, 1], [900, 1], [900, 5]])]},
            "polygon of shape 1 of .* must lie inside its image",
        ),
        ({"shapes": [shape(TRIANGLE, "mask")]}, "must hold its mask as PNG in base64, got 'None'"),
        ({"shapes": [shape([[1, float("inf")], [3, 4]], "mask")]}, "must have the points of a mask"),
        ({"shapes": [shape(TRIANGLE, "mask", mask="????")]}, "must hold its mask as PNG in base64"),
        ({"shapes": [shape(TRIANGLE, "mask", mask=7)]}, "must hold its mask as PNG in base64, got '7'"),
    ],
)
def test_what_is_no_labelme(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as refusal:
        read_labelme(tmp_path / "a.json", SIZE)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_no_content_makes_a_stack_trace(tmp_path: Path) -> None:
    """Bytes changed, cut out and put in, in the thousands."""
    random = np.random.default_rng(0)
    png = save(tmp_path / "ok.png", labels().astype(np.uint8)).read_bytes()
    tif = save(tmp_path / "ok.tif", labels().astype(np.uint16)).read_bytes()
    text = b"1 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n0 0.5 0.5 1 0.5 1 0.9 0.5 0.9\n"
    part = base64.b64encode(png).decode()
    labelme = write_labelme(
        tmp_path / "ok.json",
        shape(TRIANGLE),
        shape([[29, 18], [12, 10]], "rectangle"),
        shape([[0, 0], [29, 19]], "mask", mask=part),
    )
    refused = dict.fromkeys((".png", ".tif", ".txt", ".json"), 0)
    for suffix, content in ((".png", png), (".tif", tif), (".txt", text), (".json", labelme.read_bytes())):
        for _ in range(2000):
            changed = bytearray(content)
            for _ in range(int(random.integers(1, 4))):
                place = int(random.integers(len(changed)))
                changed[place : place + int(random.integers(0, 3))] = random.bytes(int(random.integers(0, 3)))
            file = tmp_path / f"x{suffix}"
            file.write_bytes(changed)
            try:
                if suffix == ".txt":
                    read_yolo(file, SIZE, ["cat", "dog"])
                elif suffix == ".json":
                    read_labelme(file, SIZE)
                else:
                    read_label_map(file, None)
            except UserError as error:
                refused[suffix] += 1
                assert len(str(error).splitlines()) == 1
    assert min(refused.values()) > 100, refused
