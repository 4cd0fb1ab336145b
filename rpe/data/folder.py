"""Images and masks in folders without COCO's JSON, turned into COCO's truth in memory."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from rpe.data.annotation import category_ids, only_categories
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
    below,
    find_pairs,
    folders_of,
    key_of,
)
from rpe.data.folder_mask import (
    OBJECT,
    Described,
    names_of_yolo,
    read_label_map,
    read_labelme,
    read_object_masks,
    read_yolo,
)
from rpe.data.image import check_percentile_range, check_sides, open_image
from rpe.data.module import InstanceData, SplitDataset, Truth
from rpe.structures import UserError


class FolderImages(CocoImages):
    """One split of a folder: as `CocoImages`, its truth read already."""

    def __init__(self, truth: Truth, folder: Path, *options: Any) -> None:
        self.whole = truth
        super().__init__(folder, folder, *options)

    def read_split(self, categories: Sequence[str] | None, key: str) -> tuple[Truth, set[int]]:
        chosen = category_ids(self.whole, categories, key)
        return only_categories(self.whole, chosen), chosen

    def truth(self) -> Truth:
        return only_categories(self.whole, self.categories)


class Folder(InstanceData):
    """Images and masks under `root`, with or without subfolders train, val and test (conf/data/folder.yaml).

    Args:
        val_share: of train (without any subfolder: of all) that validates where there is no val.
        test_share: of all that tests where there is no subfolder. Val stands in for a test that is missing.
        split_seed: draws them. It is not `seed`, so that runs of several seeds are tested on the same images.
        void: value of label maps that means void; None for none.
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
        self.percentile_range, self.cache = (
            None if percentile_range is None else check_percentile_range(percentile_range),
            cache,
        )
        check_sides(longest_side, crop)
        if not (0 < val_share < 1 and 0 <= test_share < 1 - val_share):
            raise UserError(
                f"data.val_share and data.test_share must leave a share for training, got {val_share:g} and {test_share:g}. Lower them"
            )
        if empty_masks not in ("refuse", "skip"):
            raise UserError(f"data.empty_masks must be refuse or skip, got {empty_masks!r}. Choose one")
        self.root, self.augment, self.void, self.skip_empty = Path(root), augment, void, empty_masks == "skip"
        self.val_share, self.test_share, self.split_seed = val_share, test_share, split_seed
        self.longest_side, self.crop = longest_side, crop
        self.train_categories, self.eval_categories = train_categories, eval_categories
        self.described: dict[Path, Described] = {}

    @cached_property
    def splits(self) -> dict[str, tuple[Path, list[Pair]]]:
        """The folder of images and the pairs of each split."""
        if not self.root.is_dir():
            raise UserError(f"data.root must be a folder, got {self.root}. Set data.root=<folder>")
        there = [
            split
            for split in SPLIT_NAMES
            if below(self.root, SPLIT_NAMES[split]) or folders_of(self.root, split, IMAGE_FOLDERS)
        ]
        found = {split: find_pairs(self.root, split) for split in there}
        if not there:
            folder, pairs = find_pairs(self.root, None)
            parts = self.share_out(pairs, {"val": self.val_share, "test": self.test_share}, folder)
            found = {split: (folder, part) for split, part in parts.items()}
        elif "train" not in there:
            raise UserError(
                f"data.root must hold train beside {' and '.join(there)}, got none in {self.root}. Add it, or remove the subfolders"
            )
        elif "val" not in there:
            folder, pairs = found["train"]
            found |= {
                split: (folder, part)
                for split, part in self.share_out(pairs, {"val": self.val_share}, folder).items()
            }
        return {"test": found["val"], **found}

    def share_out(self, pairs: list[Pair], shares: dict[str, float], where: Path) -> dict[str, list[Pair]]:
        """Return the pairs of each share, and the rest as train.

        Names and `split_seed` decide, so that few images change places when some are added.
        """
        names = [f"{self.split_seed} {key_of(pair.image.relative_to(where).as_posix())}" for pair in pairs]
        drawn = sorted(range(len(pairs)), key=lambda place: hashlib.sha256(names[place].encode()).digest())
        order = [pairs[place] for place in drawn]
        parts, start = {}, 0
        for split, share in shares.items():
            count = max(1, round(share * len(pairs))) if share else 0
            if count:
                parts[split] = sorted(order[start : start + count])
            start += count
        if start >= len(pairs):
            raise UserError(
                f"{where} must hold {start + 1} images or more to be shared out, got {len(pairs)}. Add some, or make train/, val/ and test/"
            )
        return {"train": sorted(order[start:]), **parts}

    def describe(self, pair: Pair) -> Described:
        """Return the objects of an image as its files tell them, read once."""
        if pair.image not in self.described:
            self.described[pair.image] = self.read_pair(pair)
        return self.described[pair.image]

    def read_pair(self, pair: Pair) -> Described:
        """Return the objects of an image; the size is that of label maps and masks, else the image's."""
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
        """What YOLO's classes are called, if the set tells it."""
        labels = {path.parent for _, pairs in self.splits.values() for pair in pairs for path in pair.files}
        return names_of_yolo([self.root, *below(self.root, MASK_FOLDERS), *sorted(labels)])

    @cached_property
    def names(self) -> list[str]:
        """The names of category 1, 2, ..: the same in all splits, so labelme's files are all read for it."""
        pairs = [pair for _, part in self.splits.values() for pair in part]
        forms = {pair.form for pair in pairs}
        if forms <= {LABEL_MAP, OBJECT_MASKS}:
            return [OBJECT]
        if forms == {YOLO} and self.yolo_names is not None:
            return self.yolo_names
        used = {
            found.name for pair in pairs for found in self.describe(pair).objects if found.name is not None
        }
        return sorted(used, key=lambda name: (len(name), name) if forms == {YOLO} else (0, name))

    def whole_truth(self, split: str) -> Truth:
        """Return a split in COCO's format with run lengths; void is a crowd that says so, as VOC's is.

        Raises:
            UserError: what a reader refuses, a mask without a pixel, no object, or foreground as label maps.
        """
        folder, pairs = self.splits[split]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for pair in pairs:
            height, width = self.describe(pair).size
            images.append(
                {
                    "id": pair.number,
                    "file_name": pair.image.relative_to(folder).as_posix(),
                    "height": height,
                    "width": width,
                }
            )
            for name, mask, where in self.describe(pair).objects:
                area = int(coco_mask.area(mask))
                if not area and not self.skip_empty:
                    raise UserError(
                        f"{where} must cover a pixel, got none. Mend or remove it, or leave such out with data.empty_masks=skip"
                    )
                if area:
                    void = {"iscrowd": 1, "void": True} if name is None else {"iscrowd": 0}
                    category = 1 if name is None else 1 + self.names.index(name)
                    box = [float(value) for value in coco_mask.toBbox(mask)]
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": pair.number,
                            "category_id": category,
                            "area": area,
                            "bbox": box,
                        }
                        | {"segmentation": mask}
                        | void
                    )
        if not any(not annotation["iscrowd"] for annotation in annotations):
            raise UserError(
                f"the masks of {folder} must hold an object, got none in {len(pairs)} images. Set data.root to the folder of the whole set"
            )
        if all(self.describe(pair).binary or not self.describe(pair).objects for pair in pairs):
            file = next(pair.files[0] for pair in pairs if self.describe(pair).objects)
            raise UserError(
                "label maps must number the objects 1, 2, .., "
                f"got foreground alone (0 and 255) in all of {folder}, such as {file}. "
                "Number them (skimage.measure.label parts what does not touch)"
            )
        categories = [{"id": number, "name": name} for number, name in enumerate(self.names, start=1)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def read_truth(self, split: str) -> Truth:
        whole = self.whole_truth(split)
        return only_categories(whole, category_ids(whole, self.eval_categories, "eval_categories"))

    def open_split(self, split: str, training: bool) -> SplitDataset:
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
