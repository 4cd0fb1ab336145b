"""Read images and masks from folders without COCO's JSON, and build the truth in COCO format in memory."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rpe.data.annotation import find_category_ids, keep_categories, make_annotation
from rpe.data.augment import Augment
from rpe.data.coco import CocoImages
from rpe.data.folder_layout import (
    IMAGE_FOLDERS,
    LABEL_MAP,
    LABELME,
    MASK_FOLDERS,
    OBJECT_MASKS,
    SPLIT_NAMES,
    YOLO,
    Pair,
    find_pairs,
    find_split_folders,
    find_subfolders,
)
from rpe.data.folder_mask import (
    OBJECT,
    ImageObjects,
    find_class_names,
    read_label_map,
    read_labelme,
    read_object_masks,
    read_yolo,
)
from rpe.data.image import check_percentile_range, check_sides, open_image
from rpe.data.module import InstanceData, SplitDataset, normal_name
from rpe.rle import mask_area
from rpe.structures import Truth, UserError


class FolderImages(CocoImages):
    """One split of a folder: `CocoImages` of a truth in memory."""

    def __init__(self, truth: Truth, folder: Path, *options: Any) -> None:
        self.whole = truth
        super().__init__(folder, folder, *options)

    def read_split(self, categories: Sequence[str] | None, key: str) -> tuple[Truth, set[int]]:
        """Return the annotations of the categories, and their ids."""
        chosen = find_category_ids(self.whole, categories, key)
        return keep_categories(self.whole, chosen), chosen

    def truth(self) -> Truth:
        """Return the annotations of the chosen categories in COCO format."""
        return keep_categories(self.whole, self.categories)


class Folder(InstanceData):
    """Images and masks under `root`, with or without subfolders train, val and test (conf/data/folder.yaml).

    Args:
        val_share: fraction of train for validation without a val split; without subfolders, of all images.
        test_share: fraction of all images for test, without subfolders. Otherwise val replaces a missing
            test.
        split_seed: of the random splits. It is separate from `seed`, so runs of several seeds share their
            test set.
        void: value of label maps that means void, or None.
    """

    def __init__(
        self,
        name: str,
        root: str,
        val_share: float,
        test_share: float,
        split_seed: int,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        longest_side: int | None,
        crop: int,
        train_categories: list[str] | None,
        eval_categories: list[str] | None,
        augment: Augment | None,
        void: int | None,
        empty_masks: str,
        percentile_range: list[float] | None,
        cache: bool,
    ) -> None:
        super().__init__(name, batch_size, eval_batch_size, num_workers, seed)
        self.percentile_range, self.cache = check_percentile_range(percentile_range), cache
        check_sides(longest_side, crop)
        if not (0 < val_share < 1 and 0 <= test_share < 1 - val_share):
            raise UserError(
                f"data.val_share and data.test_share must leave images for training, "
                f"got {val_share:g} and {test_share:g}. Lower them."
            )
        if empty_masks not in ("refuse", "skip"):
            raise UserError(f"data.empty_masks must be refuse or skip, got {empty_masks!r}. Choose one.")
        self.root, self.augment, self.void, self.skip_empty = Path(root), augment, void, empty_masks == "skip"
        self.val_share, self.test_share, self.split_seed = val_share, test_share, split_seed
        self.longest_side, self.crop = longest_side, crop
        self.train_categories, self.eval_categories = train_categories, eval_categories
        self.objects_of_image: dict[Path, ImageObjects] = {}

    @cached_property
    def splits(self) -> dict[str, tuple[Path, list[Pair]]]:
        """Return the image folder and the pairs of each split.

        Raises:
            UserError: the root is not a folder, or has val or test without train.
        """
        if not self.root.is_dir():
            raise UserError(f"data.root must be a folder, got {self.root}. Set data.root=<folder>.")
        present = [
            split
            for split in SPLIT_NAMES
            if find_subfolders(self.root, SPLIT_NAMES[split])
            or find_split_folders(self.root, split, IMAGE_FOLDERS)
        ]
        found = {split: find_pairs(self.root, split) for split in present}
        if not present:
            folder, pairs = find_pairs(self.root, None)
            parts = self.divide_pairs(pairs, {"val": self.val_share, "test": self.test_share}, folder)
            found = {split: (folder, part) for split, part in parts.items()}
        elif "train" not in present:
            raise UserError(
                f"data.root must hold train beside {' and '.join(present)}, got none in {self.root}. "
                "Add it, or remove the subfolders."
            )
        elif "val" not in present:
            folder, pairs = found["train"]
            found |= {
                split: (folder, part)
                for split, part in self.divide_pairs(pairs, {"val": self.val_share}, folder).items()
            }
        return {"test": found["val"], **found}

    def divide_pairs(self, pairs: list[Pair], shares: dict[str, float], where: Path) -> dict[str, list[Pair]]:
        """Return the pairs of each share, and the rest as train.

        The order is by hash of `split_seed` and name, so few images change their split when others are added.

        Raises:
            UserError: no image is left for train.
        """
        names = [
            f"{self.split_seed} {normal_name(pair.image.relative_to(where).as_posix())}" for pair in pairs
        ]
        digests = [hashlib.sha256(name.encode()).digest() for name in names]
        order = [pairs[position] for position in sorted(range(len(pairs)), key=digests.__getitem__)]
        parts, start = {}, 0
        for split, share in shares.items():
            count = max(1, round(share * len(pairs))) if share else 0
            if count:
                parts[split] = sorted(order[start : start + count])
            start += count
        if start >= len(pairs):
            raise UserError(
                f"{where} must hold at least {start + 1} images to be split, got {len(pairs)}. "
                "Add some, or make train/, val/ and test/."
            )
        return {"train": sorted(order[start:]), **parts}

    def read_objects(self, pair: Pair) -> ImageObjects:
        """Return the objects of an image, read once."""
        if pair.image not in self.objects_of_image:
            self.objects_of_image[pair.image] = self.read_pair(pair)
        return self.objects_of_image[pair.image]

    def read_pair(self, pair: Pair) -> ImageObjects:
        """Return the objects of an image. Their size is that of label maps and masks, else the image's."""
        if pair.form == LABEL_MAP:
            return read_label_map(pair.files[0], self.void)
        if pair.form == OBJECT_MASKS and pair.files:
            return read_object_masks(pair.files)
        with open_image(pair.image) as image:
            size = (image.height, image.width)
        if pair.form == LABELME:
            return read_labelme(pair.files[0], size)
        return read_yolo(pair.files[0] if pair.files else None, size, self.yolo_names)

    @cached_property
    def yolo_names(self) -> list[str] | None:
        """Return the names of YOLO's classes, or None if the dataset has no names."""
        labels = {path.parent for _, pairs in self.splits.values() for pair in pairs for path in pair.files}
        return find_class_names([self.root, *find_subfolders(self.root, MASK_FOLDERS), *sorted(labels)])

    @cached_property
    def names(self) -> list[str]:
        """Return the names of category 1, 2, .., equal in all splits. All labelme files are read for them."""
        pairs = [pair for _, part in self.splits.values() for pair in part]
        forms = {pair.form for pair in pairs}
        if forms <= {LABEL_MAP, OBJECT_MASKS}:
            return [OBJECT]
        if forms == {YOLO} and self.yolo_names is not None:
            return self.yolo_names
        objects = [found for pair in pairs for found in self.read_objects(pair).objects]
        used = {found.name for found in objects if found.name is not None}
        return sorted(used, key=lambda name: (len(name), name) if forms == {YOLO} else (0, name))

    def whole_truth(self, split: str) -> Truth:
        """Return the truth of a split in COCO format with run lengths. Void is a crowd with `"void": True`.

        Raises:
            UserError: a reader refuses a file, a mask is empty, no object is left, or label maps are
                foreground masks.
        """
        folder, pairs = self.splits[split]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for pair in pairs:
            height, width = self.read_objects(pair).size
            images.append(
                {
                    "id": pair.number,
                    "file_name": pair.image.relative_to(folder).as_posix(),
                    "height": height,
                    "width": width,
                }
            )
            for name, mask, where in self.read_objects(pair).objects:
                empty = mask_area(mask) == 0
                if empty and not self.skip_empty:
                    raise UserError(
                        f"{where} must cover a pixel, got none. "
                        "Correct or remove it, or set data.empty_masks=skip."
                    )
                if not empty:
                    category = 1 if name is None else 1 + self.names.index(name)
                    void = {"iscrowd": 1, "void": True} if name is None else {}
                    annotations.append(
                        make_annotation(len(annotations) + 1, pair.number, category, mask) | void
                    )
        if not any(not annotation["iscrowd"] for annotation in annotations):
            raise UserError(
                f"the masks of {folder} must hold an object, got none in {len(pairs)} images. "
                "Set data.root to the folder of the whole dataset."
            )
        if all(self.read_objects(pair).binary or not self.read_objects(pair).objects for pair in pairs):
            file = next(pair.files[0] for pair in pairs if self.read_objects(pair).objects)
            raise UserError(
                "label maps must number the objects 1, 2, .., "
                f"got foreground alone (0 and 255) in all of {folder}, such as {file}. "
                "Number them (skimage.measure.label numbers connected components)."
            )
        categories = [{"id": number, "name": name} for number, name in enumerate(self.names, start=1)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def read_truth(self, split: str) -> Truth:
        """Read a split's annotations of `eval_categories`."""
        whole = self.whole_truth(split)
        return keep_categories(whole, find_category_ids(whole, self.eval_categories, "eval_categories"))

    def open_split(self, split: str, training: bool) -> SplitDataset:
        """Open a split with its pairs of image and mask; see `SplitData.open_split`."""
        return FolderImages(
            self.whole_truth(split),
            self.splits[split][0],
            self.longest_side,
            self.crop if training else None,
            self.seed,
            self.train_categories if training else self.eval_categories,
            "train_categories" if training else "eval_categories",
            self.augment if training else None,
            self.percentile_range,
            self.cache,
        )
