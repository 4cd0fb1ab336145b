"""Pair images with the files that describe them, as Cellpose, StarDist, DSB2018, YOLO and labelme do."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rpe.structures import UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGE_FOLDERS = ("images", "image")
MASK_FOLDERS = ("masks", "mask", "labels", "label")
ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")
"""Of a label map's name, after its image's."""

LISTS = ("classes", "readme")
"""Text files that are no labels."""

LABEL_MAP, OBJECT_MASKS, YOLO, LABELME = "label map", "folder of masks", "YOLO text", "labelme JSON"
"""The forms that describe an image."""

FORMS = "label maps (masks/<name>.png or <name>_masks.png), a mask for each object (masks/<name>/ or <name>/masks/), YOLO's .txt, labelme's .json"


class Pair(NamedTuple):
    """An image with the files that describe it; `number` counts the images of the folder."""

    number: int
    image: Path
    form: str
    files: list[Path]


def key_of(name: str) -> str:
    """Return a name as it is compared: macOS writes accents as letters of their own."""
    return unicodedata.normalize("NFC", name)


def below(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders of these names, whatever their case."""
    return (
        [path for path in sorted(folder.iterdir()) if path.name.lower() in names and path.is_dir()]
        if folder.is_dir()
        else []
    )


def is_image(path: Path) -> bool:
    """Return whether the suffix is one that Pillow opens."""
    return (
        Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN
        and not path.name.startswith(".")
        and path.is_file()
    )


def folders_of(root: Path, split: str | None, kinds: Sequence[str]) -> list[Path]:
    """Return the folders <kind>/<split> and <split>/<kind>; <kind>/ where split is None."""
    if split is None:
        return below(root, kinds)
    inside = [path for folder in below(root, SPLIT_NAMES[split]) for path in below(folder, kinds)]
    return inside + [path for folder in below(root, kinds) for path in below(folder, SPLIT_NAMES[split])]


def find_pairs(root: Path, split: str | None) -> tuple[Path, list[Pair]]:
    """Return the folder of the images of a split (None: of the whole folder), and each image with its files.

    Raises:
        UserError: there is no image, one without masks, masks without an image, or forms that contradict.
    """
    images, masks = folders_of(root, split, IMAGE_FOLDERS), folders_of(root, split, MASK_FOLDERS)
    if len(images) > 1 or (images and len(masks) > 1):
        found = " and ".join(str(path) for path in (images if len(images) > 1 else masks))
        raise UserError(
            f"data.root must hold one folder of images and one of masks for a split, got {found}. Move one out of it"
        )
    if images:
        return images[0], paired(images[0], masks[0] if masks else images[0])
    folder = root if split is None else below(root, SPLIT_NAMES[split])[0]
    samples = [path for path in sorted(folder.iterdir()) if below(path, IMAGE_FOLDERS)]
    if not samples:
        return folder, paired(folder, folder)
    return folder, [sample_of(number, sample) for number, sample in enumerate(samples, start=1)]


def sample_of(number: int, folder: Path) -> Pair:
    """Return the pair of one of DSB2018's folders: one image in images/, a mask for each object in masks/."""
    images = [path for path in sorted(below(folder, IMAGE_FOLDERS)[0].iterdir()) if is_image(path)]
    masks = [
        path for inside in below(folder, MASK_FOLDERS) for path in sorted(inside.iterdir()) if is_image(path)
    ]
    if len(images) != 1 or not masks:
        got = f"{len(images)} images and {len(masks)} masks"
        raise UserError(
            f"{folder} must hold one image in images/ and the masks of its objects in masks/, got {got}. Complete it, or move it away"
        )
    return Pair(number, images[0], OBJECT_MASKS, masks)


def paired(folder: Path, masks: Path) -> list[Pair]:
    """Return each image of a folder with its files in `masks`, which may be the same folder.

    Raises:
        UserError: as `find_pairs`.
    """
    images = images_in(folder, masks == folder)
    forms: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(masks.iterdir()):
        form, key = described_by(path, masks == folder, images)
        if form is not None:
            forms.setdefault(form, {}).setdefault(key, []).append(path)
    if not images or len(forms) != 1:
        got = "no image" if not images else " and ".join(forms) or f"{len(images)} images and none of these"
        what = f"images in {folder}, and in {masks} one of {FORMS}"
        raise UserError(f"data.root must hold {what}; got {got}. See conf/data/folder.yaml")
    ((form, files),) = forms.items()
    refuse_unpaired(form, files, images, masks)
    inside = {
        key: sorted(filter(is_image, found[0].iterdir())) if form == OBJECT_MASKS else found
        for key, found in files.items()
    }
    return [
        Pair(place, path, form, inside.get(key, [])) for place, (key, path) in enumerate(images.items(), 1)
    ]


def images_in(folder: Path, with_masks: bool) -> dict[str, Path]:
    """Return the images of a folder by their key; label maps may lie among them.

    Raises:
        UserError: two of one name.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path) or (with_masks and path.stem.endswith(ENDINGS)):
            continue
        before = images.setdefault(key_of(path.stem), path)
        if before != path:
            raise UserError(
                f"{folder} must hold each image once, got {before.name} and {path.name}. Move one away"
            )
    return images


def refuse_unpaired(form: str, files: dict[str, list[Path]], images: dict[str, Path], masks: Path) -> None:
    """Refuse images without masks (of YOLO's they have no object), masks without an image, and two for one.

    Raises:
        UserError: naming the first such file.
    """
    orphans = [found[0] for key, found in files.items() if key not in images]
    if orphans:
        raise UserError(
            f"{orphans[0]} must have an image of its name, got none ({len(orphans)} such). Add it, or move this away"
        )
    missing = [path for key, path in images.items() if key not in files]
    if missing and form != YOLO:
        got = f"none in {masks} ({len(missing)} such)"
        raise UserError(f"image {missing[0]} must have its {form}, got {got}. Add it, or move the image away")
    for key, (file, *more) in files.items():
        if more:
            got = f"{file.name} and {more[0].name}"
            raise UserError(f"image {images[key]} must have its {form} once, got {got}. Move one away")


def described_by(path: Path, same_folder: bool, images: dict[str, Path]) -> tuple[str | None, str]:
    """Return the form of a file that describes an image (None: it does not), and the key of that image."""
    key, suffix = key_of(path.stem), path.suffix.lower()
    if path.is_dir():
        return (None if same_folder or path.name.startswith(".") else OBJECT_MASKS), key_of(path.name)
    if suffix in (".txt", ".json"):
        # beside the images lie notes of other kinds too, such as the outlines that Cellpose writes
        other = key not in images if same_folder else key.lower() in LISTS
        return (None if other else YOLO if suffix == ".txt" else LABELME), key
    if not is_image(path) or (same_folder and not key.endswith(ENDINGS)):
        return None, key
    if same_folder or key not in images:
        bare = next((key.removesuffix(ending) for ending in ENDINGS if key.endswith(ending)), key)
        key = next((name for name in (bare, f"{bare}_img") if name in images), bare)
    return LABEL_MAP, key
