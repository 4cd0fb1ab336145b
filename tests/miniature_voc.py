"""PASCAL VOC 2012 and SBD in miniature, in the layouts of their official archives."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage, sparse
from scipy.io import savemat

VOC_TRAIN, VOC_VAL = ["2007_000001", "2008_000002"], ["2007_000003", "2008_000004", "2009_000007"]
SBD_TRAIN, SBD_VAL = ["2008_000002", "2008_000005"], ["2007_000003", "2008_000006"]
AUGMENTED = ["2007_000001", "2008_000002", "2008_000005", "2008_000006"]
BOXES = [(6, 6, 26, 22, 15), (20, 40, 24, 30, 7), (8, 34, 8, 10, 15)]
"""Row, column, height, width and class of the objects; a later one lies on those before."""


def voc_colours() -> list[int]:
    """The devkit's VOCcolormap, as it is written there."""
    colours: list[int] = []
    for index in range(256):
        red, green, blue, rest = 0, 0, 0, index
        for bit in range(8):
            red |= (rest & 1) << (7 - bit)
            green |= (rest >> 1 & 1) << (7 - bit)
            blue |= (rest >> 2 & 1) << (7 - bit)
            rest >>= 3
        colours += [red, green, blue]
    return colours


def maps_of(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, its objects and classes: three boxes, without void."""
    random = np.random.default_rng(seed)
    height, width = 56 + 4 * (seed % 3), 80
    pixels = random.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
    objects, classes = np.zeros((height, width), dtype=np.uint8), np.zeros((height, width), dtype=np.uint8)
    for number, (row, column, tall, wide, category) in enumerate(BOXES, start=1):
        box = (slice(row, row + tall), slice(column, column + wide))
        objects[box], classes[box] = number, category
        pixels[box][..., number - 1] = 220
    return pixels, objects, classes


def bordered(objects: np.ndarray) -> np.ndarray:
    """Where VOC has its void border: within two pixels of another object, on both sides."""
    return ndimage.maximum_filter(objects, 3) != ndimage.minimum_filter(objects, 3)


def write_palette(file: Path, indices: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(voc_colours())
    image.save(file)


def write_picture(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, quality=95)


def write_list(file: Path, names: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{name}\n" for name in names))


def write_voc(root: Path) -> Path:
    """`root/VOCdevkit/VOC2012`: two images to train on, three to validate; void borders, and in one image a void region."""
    folder = root / "VOCdevkit" / "VOC2012"
    for part, names in (("train", VOC_TRAIN), ("val", VOC_VAL), ("trainval", VOC_TRAIN + VOC_VAL)):
        write_list(folder / "ImageSets" / "Segmentation" / f"{part}.txt", names)
    for name in VOC_TRAIN + VOC_VAL:
        pixels, objects, classes = maps_of(int(name[-1]))
        void = bordered(objects)
        if name == "2007_000003":
            void[48:, 2:20] = True
        objects[void] = classes[void] = 255
        write_picture(folder / "JPEGImages" / f"{name}.jpg", pixels)
        write_palette(folder / "SegmentationObject" / f"{name}.png", objects)
        write_palette(folder / "SegmentationClass" / f"{name}.png", classes)
    return root


def write_mat(
    folder: Path, name: str, objects: np.ndarray, classes: np.ndarray, categories: list[int]
) -> None:
    for part in ("inst", "cls"):
        (folder / part).mkdir(parents=True, exist_ok=True)

    def cells(count: int) -> np.ndarray:
        empty = np.empty((count, 1), dtype=object)
        for index in range(count):
            empty[index, 0] = sparse.csc_matrix(objects.shape, dtype=bool)
        return empty

    column = np.array(categories, dtype=np.uint8).reshape(-1, 1)
    savemat(
        folder / "inst" / f"{name}.mat",
        {"GTinst": {"Segmentation": objects, "Categories": column, "Boundaries": cells(max(1, len(column)))}},
    )
    present = np.unique(column).reshape(-1, 1)
    savemat(
        folder / "cls" / f"{name}.mat",
        {"GTcls": {"Segmentation": classes, "CategoriesPresent": present, "Boundaries": cells(20)}},
    )


def write_sbd(root: Path) -> Path:
    """`root/benchmark_RELEASE/dataset`: one of its images is in VOC's train, one in VOC's val; no void, and coarser than VOC."""
    folder = root / "benchmark_RELEASE" / "dataset"
    write_list(folder / "train.txt", SBD_TRAIN)
    write_list(folder / "val.txt", SBD_VAL)
    for name in SBD_TRAIN + SBD_VAL:
        pixels, objects, classes = maps_of(int(name[-1]))
        objects[6:8], classes[6:8] = 0, 0  # coarser than VOC's, so that one sees whose masks were read
        write_picture(folder / "img" / f"{name}.jpg", pixels)
        write_mat(folder, name, objects, classes, [box[-1] for box in BOXES])
    return root
