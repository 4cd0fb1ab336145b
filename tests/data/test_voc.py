"""VOC and SBD in miniature, and the real samples where RPE_DATA_DIR has them."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature_voc import (
    AUGMENTED,
    BOXES,
    VOC_TRAIN,
    VOC_VAL,
    bordered,
    maps_of,
    write_list,
    write_mat,
    write_palette,
    write_sbd,
    write_voc,
)
from PIL import Image
from scipy import ndimage

import evaluate
import train
from rpe.data.augment import Augment
from rpe.data.coco import CocoImages
from rpe.data.module import collate, data_root
from rpe.data.voc import Voc, VocImages
from rpe.data.voc_mask import CATEGORIES
from rpe.metric.average_recall import average_recall
from rpe.metric.instance_ap import instance_metrics, label_maps
from rpe.rle import decode_mask, encode_mask
from rpe.segment import select_instances
from rpe.structures import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sbd(write_voc(tmp_path / "data"))


def make_voc(root: Path, **change: object) -> Voc:
    loading = dict(
        name="voc", root=str(root), use_sbd=False, batch_size=2, eval_batch_size=1, num_workers=0, seed=0
    )
    options = loading | dict(longest_side=None, crop=48, augment=None, copy_paste=0.0)
    return Voc(**(options | change))  # type: ignore[arg-type]


def images(data: Voc, split: str, training: bool = False) -> VocImages:
    dataset = data.dataset(split, training)
    assert isinstance(dataset, VocImages)
    return dataset


def names(dataset: VocImages) -> list[str]:
    return [name.decode() for name in dataset.names]


def test_labels_classes_and_void_borders(root: Path) -> None:
    dataset = images(make_voc(root), "train")
    image, labels, image_id, size, categories = dataset[0]
    pixels, objects, _ = maps_of(1)
    wanted = np.where(bordered(objects), -1, objects.astype(int))
    assert (
        (labels.numpy() == wanted).all()
        and categories.tolist() == [0, 15, 7, 15]
        and labels.dtype == torch.int64
    )
    assert image_id == 2007000001 and size == objects.shape and image.dtype == torch.float32
    assert np.abs(image.numpy() - pixels.transpose(2, 0, 1) / 255).mean() < 0.05


def test_the_augmented_set_has_no_image_of_val_and_vocs_own_masks_win(root: Path) -> None:
    data = make_voc(root, use_sbd=True)
    dataset = images(data, "train", training=False)
    assert names(dataset) == AUGMENTED and not set(AUGMENTED) & set(VOC_VAL)
    assert names(images(make_voc(root), "train")) == VOC_TRAIN and names(
        images(data, "val")
    ) == VOC_VAL == names(images(data, "test"))
    both, _ = dataset.read_annotation(AUGMENTED.index("2008_000002"))
    assert (both == -1).any(), "VOC's own masks have void borders"
    from_sbd, classes = dataset.read_annotation(AUGMENTED.index("2008_000006"))
    assert not (from_sbd == -1).any() and (from_sbd[6:8] == 0).all() and classes.tolist() == [15, 7, 15]
    # the image is SBD's own where VOC has none
    assert dataset.read_image(AUGMENTED.index("2008_000006")).shape == (3, 56, 80)


def test_the_truth_is_the_label_map_and_coco_reads_it_as_such(root: Path, tmp_path: Path) -> None:
    dataset = images(make_voc(root), "val")
    truth = dataset.truth()
    assert (
        [category["name"] for category in truth["categories"]] == CATEGORIES
        and len(CATEGORIES) == 20
        and CATEGORIES[14] == "person"
    )
    assert (
        len({annotation["id"] for annotation in truth["annotations"]})
        == len(truth["annotations"])
        == len(VOC_VAL) * (len(BOXES) + 1)
    )
    for place in range(len(dataset)):
        _, labels, image_id, _, categories = dataset[place]
        mine = [annotation for annotation in truth["annotations"] if annotation["image_id"] == image_id]
        objects = [annotation for annotation in mine if not annotation["iscrowd"]]
        assert [annotation["category_id"] for annotation in objects] == categories.tolist()[1:]
        for number, annotation in enumerate(objects, start=1):
            mask = decode_mask(annotation["segmentation"])
            assert (mask == (labels == number).numpy()).all() and annotation["area"] == mask.sum()
        (void,) = [annotation for annotation in mine if annotation["iscrowd"]]
        assert void["void"] and (decode_mask(void["segmentation"]) == (labels == -1).numpy()).all()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    kept = CocoImages(
        root / "VOCdevkit/VOC2012/JPEGImages", tmp_path / "truth.json", None, None, 0, ["car"], ""
    ).truth()["annotations"]
    assert sum(annotation.get("void", False) for annotation in kept) == len(VOC_VAL) and {
        a["category_id"] for a in kept
    } == {1, 7}
    again = CocoImages(
        root / "VOCdevkit/VOC2012/JPEGImages", tmp_path / "truth.json", None, None, 0, None, ""
    )
    for place in range(len(dataset)):
        one, other = dataset[place][1], again[place][1]
        # COCO's reader numbers the larger first
        assert torch.equal(one.sign(), other.sign()) and len(one.unique()) == len(other.unique())
        (batch, same) = (collate([dataset[place]]), collate([again[place]]))
        assert torch.equal(batch.classes(), same.classes()) and set(batch.classes().unique().tolist()) == {
            -1,
            0,
            7,
            15,
        }
    assert again.classes == dataset.classes == dict(enumerate(CATEGORIES, start=1))


def test_the_truth_needs_no_photographs(root: Path) -> None:
    wanted = [images(make_voc(root, use_sbd=True), split).truth() for split in ("train", "val")]
    shutil.rmtree(root / "VOCdevkit/VOC2012/JPEGImages")
    shutil.rmtree(root / "benchmark_RELEASE/dataset/img")
    assert [make_voc(root, use_sbd=True).truth(split) for split in ("train", "val")] == wanted
    voc_file(root, "SegmentationObject").unlink()
    with pytest.raises(UserError, match="SegmentationObject/2007_000001.png must exist"):
        make_voc(root).truth("train")


def results_of(truth: dict) -> list[dict]:
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "score": 0.9,
            "segmentation": a["segmentation"],
        }
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]


def test_the_truth_as_results_recalls_everything_and_void_asks_for_nothing(root: Path) -> None:
    truth = make_voc(root).truth("val")
    figures = average_recall(truth, results_of(truth))
    assert all(
        value == 1.0 for name, value in figures.items() if name.startswith("AR@") and name not in ("AR@1",)
    )
    on_void = [
        {"image_id": a["image_id"], "category_id": 1, "score": 1.0, "segmentation": a["segmentation"]}
        for a in truth["annotations"]
        if a["iscrowd"]
    ]
    assert average_recall(truth, on_void)["AR@1000"] == 0.0
    with_void = average_recall(truth, on_void + results_of(truth))
    assert with_void["AR@10"] == 1.0


def test_an_object_and_its_own_pixels_under_the_void_are_that_object(root: Path) -> None:
    truth = make_voc(root).truth("val")
    results = results_of(truth)
    for row in results:
        (void,) = [a for a in truth["annotations"] if a["iscrowd"] and a["image_id"] == row["image_id"]]
        mask = decode_mask(row["segmentation"])
        row["segmentation"] = encode_mask(
            mask | (ndimage.binary_dilation(mask, np.ones((3, 3))) & decode_mask(void["segmentation"]))
        )
    figures = average_recall(truth, results)
    assert figures["AR@10"] == figures["AR_voc@10"] == figures["AR_voc@60"] == 1.0
    assert (
        instance_metrics(label_maps(truth, results, partial(select_instances, threshold=0.5)))["AP90"] == 1.0
    )


def test_training_crops_are_augmented_and_classes_follow_their_objects(root: Path) -> None:
    never = dict.fromkeys(("gamma", "brightness", "contrast", "channels", "rotation", "scale"))
    augment = Augment(flip=1.0, flip_vertical=0.0, quarter_turn=0.0, invert=0.0, **never)
    dataset = images(make_voc(root, crop=24, augment=augment), "train", training=True)
    seen = set()
    for index in range(40):
        image, labels, _, size, categories = dataset[index]
        assert (
            image.shape == (3, 24, 24)
            and int(labels.max()) == len(categories) - 1
            and size[1] == 80
            and categories[0] == 0
        )
        for number, category in enumerate(categories.tolist()[1:], start=1):
            # object 2 is the green one, and the only bus
            green = float(image[1][labels == number].median()) > 0.6
            assert green == (category == 7)
        seen.add(tuple(categories.tolist()))
    assert len(seen) >= 3
    assert dataset.augment is augment and images(make_voc(root, augment=augment), "train").augment is None


def test_root_may_be_the_devkit_or_the_year(root: Path) -> None:
    for place in ("VOCdevkit", "VOCdevkit/VOC2012"):
        assert names(images(make_voc(root / place, use_sbd=True), "train")) == AUGMENTED
    with pytest.raises(
        UserError,
        match=r"data.root must hold VOC 2012 as VOCdevkit/VOC2012/ImageSets/Segmentation, got .*nowhere. Set data.root .*name=voc",
    ):
        make_voc(root / "nowhere").dataset("train")
    shutil.rmtree(root / "benchmark_RELEASE")
    with pytest.raises(
        UserError,
        match=r"data.root must hold SBD \(data.use_sbd=true\) as benchmark_RELEASE/dataset, got .*name=sbd",
    ):
        make_voc(root, use_sbd=True).dataset("train")
    assert len(make_voc(root, use_sbd=True).dataset("val")) == 3


def voc_file(root: Path, folder: str, name: str = "2007_000001") -> Path:
    return root / "VOCdevkit/VOC2012" / folder / f"{name}.{'jpg' if folder == 'JPEGImages' else 'png'}"


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationObject", "SegmentationClass"])
def test_files_that_are_absent_or_truncated(root: Path, folder: str) -> None:
    file = voc_file(root, folder)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(UserError, match=rf"{folder}/2007_000001.\w+ must decode"):
        make_voc(root).dataset("train")[0]
    file.write_bytes(b"")
    with pytest.raises(UserError, match=rf"{folder}/2007_000001.\w+ must decode"):
        make_voc(root).dataset("train")
    file.unlink()
    with pytest.raises(
        UserError, match=rf"{folder}/2007_000001.\w+ must exist, as 2007_000001 is listed for train"
    ):
        make_voc(root).dataset("train")


@pytest.mark.parametrize("folder", ["SegmentationObject", "SegmentationClass"])
def test_masks_that_are_no_masks(root: Path, folder: str) -> None:
    file = voc_file(root, folder)
    indices = np.array(Image.open(file))
    Image.fromarray(indices).save(file)
    with pytest.raises(UserError, match=r"must be a palette image, got L. Take VOC's own"):
        make_voc(root).dataset("train")
    Image.fromarray(indices).convert("RGB").save(file)
    with pytest.raises(UserError, match=r"must be a palette image, got RGB"):
        make_voc(root).dataset("train")
    image = Image.fromarray(indices, mode="P")
    image.putpalette([value for index in range(256) for value in (index, index, index)])
    image.save(file)
    with pytest.raises(UserError, match=rf"{folder}/2007_000001.png must have VOC's palette"):
        make_voc(root).dataset("train")[0]
    write_palette(file, indices[:-4])
    with pytest.raises(
        UserError,
        match=rf"2007_000001.jpg must be 56 x 80 .* its mask .*{folder}/2007_000001.png, got 60 x 80",
    ):
        make_voc(root).dataset("train")


def changed(root: Path, change: Callable[[np.ndarray, np.ndarray], None]) -> Voc:
    masks = [
        np.array(Image.open(voc_file(root, folder))) for folder in ("SegmentationObject", "SegmentationClass")
    ]
    change(*masks)
    for folder, mask in zip(("SegmentationObject", "SegmentationClass"), masks, strict=True):
        write_palette(voc_file(root, folder), mask)
    return make_voc(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda objects, classes: np.copyto(objects, 0) or np.copyto(classes, 0),
            "VOC's 2007_000001: the masks must hold an object, got none",
        ),
        (
            lambda objects, classes: np.copyto(classes, 0, where=objects == 2),
            "object 2 must have a class from 1 to 20, got 0",
        ),
        (
            lambda objects, classes: np.copyto(classes, 21, where=objects == 2),
            "object 2 must have a class from 1 to 20, got 21",
        ),
        (
            lambda objects, classes: np.copyto(classes, 255, where=objects == 2),
            "object 2 must have a class from 1 to 20, got void",
        ),
        (
            lambda objects, classes: np.copyto(objects, 0, where=objects == 2),
            r"object and class mask must agree, got \d+ of \d+ pixels",
        ),
        (
            lambda objects, classes: np.copyto(classes, np.roll(classes, 3, axis=0)),
            "object and class mask must agree",
        ),
    ],
)
def test_masks_that_disagree(root: Path, change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        changed(root, change).dataset("train")[0]


def test_a_few_pixels_that_disagree_are_void_and_void_alone_is_legal(root: Path) -> None:
    def few(objects: np.ndarray, classes: np.ndarray) -> None:
        classes[10:12, 10:12] = 3

    labels = changed(root, few).dataset("train")[0][1]
    assert (labels[10:12, 10:12] == -1).all() and int(labels.max()) == 3

    def only_void(objects: np.ndarray, classes: np.ndarray) -> None:
        for mask in (objects, classes):
            mask[mask > 0] = 255

    assert set(changed(root, only_void).dataset("train")[0][1].unique().tolist()) == {-1, 0}


def test_sbd_masks_of_another_size_or_class(root: Path) -> None:
    folder, place = root / "benchmark_RELEASE/dataset", AUGMENTED.index("2008_000005")
    _, objects, classes = maps_of(5)
    write_mat(folder, "2008_000005", objects[:-2], classes[:-2], [15, 7, 15])
    with pytest.raises(
        UserError, match=r"image .*2008_000005.jpg must be 62 x 80 .* as its masks, got 64 x 80"
    ):
        make_voc(root, use_sbd=True).dataset("train")[place]
    write_mat(folder, "2008_000005", objects, classes, [15, 21, 15])
    with pytest.raises(UserError, match="SBD's 2008_000005: object 2 must have a class from 1 to 20, got 21"):
        make_voc(root, use_sbd=True).dataset("train")[place]
    write_mat(folder, "2008_000005", objects, classes, [15, 8, 15])
    with pytest.raises(UserError, match="SBD's 2008_000005: object and class mask must agree"):
        make_voc(root, use_sbd=True).dataset("train")[place]
    (folder / "inst" / "2008_000005.mat").unlink()
    with pytest.raises(UserError, match="inst/2008_000005.mat must exist"):
        make_voc(root, use_sbd=True).dataset("train")


def test_sbd_files_are_looked_at_before_training_starts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, nothing = root / "benchmark_RELEASE/dataset", np.zeros((64, 80), dtype=np.uint8)
    file = folder / "inst" / "2008_000005.mat"
    write_mat(folder, "2008_000005", nothing, nothing, [])
    with pytest.raises(UserError, match=r"inst/2008_000005.mat must hold an instance, got none"):
        make_voc(root, use_sbd=True).dataset("train")
    # of many files what they hold is seen when one is used, whether they are whole before
    monkeypatch.setattr("rpe.data.voc.SBD_READ", 0)
    dataset = make_voc(root, use_sbd=True).dataset("train")
    with pytest.raises(UserError, match=r"inst/2008_000005.mat must hold an instance, got none"):
        dataset[AUGMENTED.index("2008_000005")]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"inst/2008_000005.mat must be a whole MATLAB file"):
        make_voc(root, use_sbd=True).dataset("train")


@pytest.mark.parametrize(("option", "value"), [("crop", 0), ("crop", -1), ("longest_side", 0)])
def test_lengths_are_positive(root: Path, option: str, value: int) -> None:
    with pytest.raises(UserError, match=f"data.{option} must be >= 1 in pixels, got {value}"):
        make_voc(root, **{option: value})


def test_split_files(root: Path) -> None:
    file = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    for lines, message in (
        (["2007_000001", "2007_000001"], "must list each name once, got 2007_000001 twice"),
        ([], "must list names such as 2008_000215, got nothing"),
        (["dog"], "must list names such as 2008_000215, got 'dog'"),
        (["2007_000009"], "JPEGImages/2007_000009.jpg must exist, as 2007_000009 is listed"),
    ):
        write_list(file, lines)
        with pytest.raises(UserError, match=message):
            make_voc(root).dataset("train")
    file.unlink()
    with pytest.raises(UserError, match=r"split file .*train.txt must exist, got none"):
        make_voc(root).dataset("train")


TINY = [
    "backbone.width=8",
    "backbone.levels=2",
    "data.batch_size=2",
    "data.num_workers=0",
    "data.crop=32",
    "loss.pairwise.num_pixels=64",
    "trainer.max_epochs=1",
]


def test_train_and_evaluate_from_the_command_line(
    root: Path, command_line: Callable[..., None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command_line(
        train.main,
        "data=voc",
        f"data.root={root}",
        "data.use_sbd=true",
        "augment=standard",
        *TINY,
        f"hydra.run.dir={run}",
    )
    figures = json.loads((run / "metrics.json").read_text())["metrics"]
    assert figures["images"] == 3 and 0 <= figures["AR@100"] <= 1
    command_line(evaluate.main, f"run={run}", "split=val")
    assert json.loads((run / "evaluation" / "voc-val" / "metrics.json").read_text())["metrics"]["images"] == 3
    (tmp_path / "truth.json").write_text(json.dumps(results_of(make_voc(root).truth("val"))))
    out = f"hydra.run.dir={tmp_path / 'out'}"
    command_line(
        evaluate.main, f"predictions={tmp_path / 'truth.json'}", "data=voc", f"data.root={root}", out
    )
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["AR@1000"] == 1.0


def real() -> Path:
    if not (data_root() / "VOCdevkit").is_dir():
        pytest.skip(f"{data_root() / 'VOCdevkit'} is absent: set RPE_DATA_DIR to the real data")
    return data_root()


def test_real_samples() -> None:
    data = make_voc(real(), use_sbd=True)
    assert names(images(data, "train")) == ["2008_000215", "2008_000234", "2008_000359", "2008_002240"]
    assert names(images(make_voc(real()), "train")) == ["2008_000215", "2008_002240"]
    assert names(images(data, "val")) == ["2008_006554", "2010_001646", "2010_005063"]
    counts = [
        (len(images(data, "train")[place].categories) - 1, images(data, "train").is_own[place])
        for place in range(4)
    ]
    assert counts == [(3, True), (3, False), (2, False), (4, True)]
    truth = data.truth("val")
    assert sorted(a["category_id"] for a in truth["annotations"]) == sorted([6, 15, 15] + [6] * 3 + [6] * 6)
    assert average_recall(truth, results_of(truth))["AR@1000"] == 1.0


@pytest.mark.slow
def test_real_samples_train_from_the_command_line(command_line: Callable[..., None], tmp_path: Path) -> None:
    run = tmp_path / "run"
    command_line(
        train.main,
        "data=voc",
        f"data.root={real()}",
        "data.use_sbd=true",
        "augment=standard",
        *TINY,
        "data.longest_side=64",
        f"hydra.run.dir={run}",
    )
    assert json.loads((run / "metrics.json").read_text())["metrics"]["images"] == 3


def test_pasted_objects_come_from_other_training_images(root: Path) -> None:
    plain, pasted = (images(make_voc(root, copy_paste=share), "train", training=True) for share in (0.0, 1.0))
    more = [
        (len(one.categories), len(other.categories))
        for one, other in ((plain[i], pasted[i]) for i in range(12))
    ]
    assert sum(b for _, b in more) > sum(a for a, _ in more)
    assert torch.equal(pasted[3].labels, pasted[3].labels) and not torch.equal(
        pasted[3].labels, plain[3].labels
    )
    whole = images(make_voc(root, copy_paste=1.0), "val")
    assert whole.copy_paste == 0, "never in evaluation"
    with pytest.raises(UserError, match="data.copy_paste"):
        make_voc(root, copy_paste=1.5)
