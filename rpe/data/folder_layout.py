"""Pair images with their mask files in the layouts of Cellpose, StarDist, DSB2018, YOLO and labelme."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rpe.data.listed import is_image
from rpe.data.module import normal_name
from rpe.structures import UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGE_FOLDERS = ("images", "image")
MASK_FOLDERS = ("masks", "mask", "labels", "label")
ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")
"""Endings that label maps add to their image's name."""

LISTS = ("classes", "readme")
"""Names of text files that hold no labels."""

LABEL_MAP, OBJECT_MASKS, YOLO, LABELME = "label map", "folder of masks", "YOLO text", "labelme JSON"
"""Forms of mask files."""

FORMS = (
    "label maps (masks/<name>.png or <name>_masks.png), a mask for each object (masks/<name>/ or "
    "<name>/masks/), YOLO's .txt, labelme's .json"
)
"""The forms, for messages."""


class Pair(NamedTuple):
    """An image with its mask files. `number` counts the images of the folder from 1."""

    number: int
    image: Path
    form: str
    files: list[Path]


def find_subfolders(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the subfolders with these names, in upper or lower case."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.name.lower() in names and path.is_dir()]


def find_split_folders(root: Path, split: str | None, kinds: Sequence[str]) -> list[Path]:
    """Return the folders <kind>/<split> and <split>/<kind>, or <kind>/ if split is None."""
    if split is None:
        return find_subfolders(root, kinds)
    inside = [
        path
        for folder in find_subfolders(root, SPLIT_NAMES[split])
        for path in find_subfolders(folder, kinds)
    ]
    return inside + [
        path
        for folder in find_subfolders(root, kinds)
        for path in find_subfolders(folder, SPLIT_NAMES[split])
    ]


def find_pairs(root: Path, split: str | None) -> tuple[Path, list[Pair]]:
    """Return the image folder of a split (None: of the whole folder), and each image with its files.

    Raises:
        UserError: no image, an image without masks, masks without an image, or several forms of masks.
    """
    images, masks = (
        find_split_folders(root, split, IMAGE_FOLDERS),
        find_split_folders(root, split, MASK_FOLDERS),
    )
    if len(images) > 1 or (images and len(masks) > 1):
        found = " and ".join(str(path) for path in (images if len(images) > 1 else masks))
        raise UserError(
            f"data.root must hold one folder of images and one of masks for a split, got {found}. "
            "Move one away."
        )
    if images:
        return images[0], pair_files(images[0], masks[0] if masks else images[0])
    folder = root if split is None else find_subfolders(root, SPLIT_NAMES[split])[0]
    samples = [path for path in sorted(folder.iterdir()) if find_subfolders(path, IMAGE_FOLDERS)]
    if not samples:
        return folder, pair_files(folder, folder)
    return folder, [pair_sample(number, sample) for number, sample in enumerate(samples, start=1)]


def pair_sample(number: int, folder: Path) -> Pair:
    """Return the pair of a DSB2018 folder: one image in images/, a mask for each object in masks/.

    Raises:
        UserError: the folder does not hold one image and masks.
    """
    images = [path for path in sorted(find_subfolders(folder, IMAGE_FOLDERS)[0].iterdir()) if is_image(path)]
    masks = [
        path
        for inside in find_subfolders(folder, MASK_FOLDERS)
        for path in sorted(inside.iterdir())
        if is_image(path)
    ]
    if len(images) != 1 or not masks:
        got = f"{len(images)} images and {len(masks)} masks"
        raise UserError(
            f"{folder} must hold one image in images/ and the masks of its objects in masks/, got {got}. "
            "Complete it, or move it away."
        )
    return Pair(number, images[0], OBJECT_MASKS, masks)


def pair_files(folder: Path, masks: Path) -> list[Pair]:
    """Return each image of a folder with its files in `masks`, which may be the same folder.

    Raises:
        UserError: as `find_pairs`.
    """
    images = list_images(folder, masks == folder)
    forms: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(masks.iterdir()):
        form, key = identify_mask_file(path, masks == folder, images)
        if form is not None:
            forms.setdefault(form, {}).setdefault(key, []).append(path)
    if not images or len(forms) != 1:
        got = "no image" if not images else " and ".join(forms) or f"{len(images)} images and none of these"
        what = f"images in {folder}, and in {masks} one of {FORMS}"
        raise UserError(f"data.root must hold {what}; got {got}. See conf/data/folder.yaml.")
    ((form, files),) = forms.items()
    refuse_unpaired(form, files, images, masks)
    files_of_key = {
        key: sorted(filter(is_image, found[0].iterdir())) if form == OBJECT_MASKS else found
        for key, found in files.items()
    }
    return [
        Pair(number, path, form, files_of_key.get(key, []))
        for number, (key, path) in enumerate(images.items(), start=1)
    ]


def list_images(folder: Path, with_masks: bool) -> dict[str, Path]:
    """Return the images of a folder by name. `with_masks`: the folder also holds label maps, left out.

    Raises:
        UserError: two images have one name.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path) or (with_masks and path.stem.endswith(ENDINGS)):
            continue
        before = images.setdefault(normal_name(path.stem), path)
        if before != path:
            raise UserError(
                f"{folder} must hold each image once, got {before.name} and {path.name}. Move one away."
            )
    return images


def refuse_unpaired(form: str, files: dict[str, list[Path]], images: dict[str, Path], masks: Path) -> None:
    """Refuse images without masks, masks without an image, and two mask files of one image.

    In YOLO's form an image without a file has no object.

    Raises:
        UserError: naming the first such file.
    """
    orphans = [found[0] for key, found in files.items() if key not in images]
    if orphans:
        raise UserError(
            f"{orphans[0]} must have an image of its name, got none ({len(orphans)} such). "
            "Add it, or move the file away."
        )
    missing = [path for key, path in images.items() if key not in files]
    if missing and form != YOLO:
        got = f"none in {masks} ({len(missing)} such)"
        raise UserError(
            f"image {missing[0]} must have its {form}, got {got}. Add it, or move the image away."
        )
    for key, (file, *more) in files.items():
        if more:
            got = f"{file.name} and {more[0].name}"
            raise UserError(f"image {images[key]} must have its {form} once, got {got}. Move one away.")


def identify_mask_file(path: Path, same_folder: bool, images: dict[str, Path]) -> tuple[str | None, str]:
    """Return the form of a mask file (None: it is not a mask file), and the name of its image."""
    key, suffix = normal_name(path.stem), path.suffix.lower()
    if path.is_dir():
        return (None if same_folder or path.name.startswith(".") else OBJECT_MASKS), normal_name(path.name)
    if suffix in (".txt", ".json"):
        # an image folder may hold other text files, such as the outlines that Cellpose writes
        other = key not in images if same_folder else key.lower() in LISTS
        return (None if other else YOLO if suffix == ".txt" else LABELME), key
    if not is_image(path) or (same_folder and not key.endswith(ENDINGS)):
        return None, key
    if same_folder or key not in images:
        bare = next((key.removesuffix(ending) for ending in ENDINGS if key.endswith(ending)), key)
        key = next((name for name in (bare, f"{bare}_img") if name in images), bare)
    return LABEL_MAP, key
