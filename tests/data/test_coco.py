"""The reader on a miniature in COCO's layout, and on the real images where RPE_DATA_DIR has them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from benchmarks.coco_memory import write_dataset
from rpe.data.coco import Coco, CocoImages, crop_randomly, renumber
from rpe.data.module import data_root
from rpe.metric.average_recall import average_recall
from rpe.rle import compress
from rpe.structures import UserError


def make_coco(root: Path, **change: object) -> Coco:
    options = dict(
        name="coco",
        root=str(root),
        batch_size=2,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
        longest_side=None,
        crop=40,
        train_categories=None,
        eval_categories=None,
        empty_masks="refuse",
        augment=None,
        percentile_range=None,
        cache=False,
    )
    return Coco(**(options | change))  # type: ignore[arg-type]


def edit(root: Path, change, split: str = "train") -> None:
    file = root / "annotations" / f"instances_{split}2017.json"
    truth = json.loads(file.read_text())
    change(truth)
    file.write_text(json.dumps(truth))


def test_polygons_and_run_lengths_become_labels_with_the_smaller_on_top(coco_folder: Path) -> None:
    image, labels, image_id, size, categories = make_coco(coco_folder).dataset("train")[0]
    assert categories.tolist() == [0, 1, 1, 2], (
        "boxes and, in the middle of the file, a brick, which is the smallest"
    )
    assert image_id == 1 and size == (48, 64) and image.dtype == torch.float32 and float(image.max()) <= 1
    wanted = np.zeros((48, 64), dtype=np.int64)
    wanted[4:24, 4:28] = 1
    wanted[28:44, 40:60] = 2
    wanted[10:18, 12:20] = 3
    assert (labels.numpy() == wanted).all()
    assert float(image[0, 5, 5]) > 0.8 and float(image[0, 45, 5]) < 0.3


def test_classes_follow_the_ids_in_order_and_objects_that_are_covered_or_cut_away(coco_folder: Path) -> None:
    def far_apart(truth: dict) -> None:
        truth["categories"] = [{"id": 90, "name": "brick"}, {"id": 7, "name": "box"}]
        for annotation in truth["annotations"]:
            annotation["category_id"] = {1: 7, 2: 90}[annotation["category_id"]]
        # the brick under a box of the same place, which is painted later as it is no larger
        first = next(a for a in truth["annotations"] if a["image_id"] == 1 and a["category_id"] == 90)
        truth["annotations"].append(first | {"id": 999, "category_id": 7})

    edit(coco_folder, far_apart)
    dataset = make_coco(coco_folder, crop=16).dataset("train")
    assert dataset.classes == {7: "box", 90: "brick"}
    assert dataset[0].categories.tolist() == [0, 1, 1, 1] and dataset[1].categories.tolist() == [0, 1, 1, 2]
    crops = make_coco(coco_folder, crop=16).dataset("train", training=True)
    seen = set()
    for index in range(1, 200, 4):
        image, labels, _, _, categories = crops[index]
        assert len(categories) == int(labels.max()) + 1
        for number, category in enumerate(categories.tolist()[1:], start=1):
            assert (float(image[1][labels == number].median()) > 0.6) == (category == 2), (
                "the second box of an image is green, and the brick"
            )
        seen.add(tuple(categories.tolist()))
    assert {(0,), (0, 1), (0, 2)} <= seen or len(seen) >= 3


def test_crowds_are_void_and_empty_images_are_kept(coco_folder: Path) -> None:
    dataset = make_coco(coco_folder).dataset("val")
    assert len(dataset) == 4
    assert (dataset[1][1][:6, 40:] == -1).all() and int((dataset[1][1] == -1).sum()) == 6 * 24
    assert (dataset[3][1] == 0).all() and dataset[3][2] == 104


def test_categories_for_training_and_for_evaluation(coco_folder: Path) -> None:
    data = make_coco(coco_folder, train_categories=["brick"], eval_categories=["box"])
    assert int(data.dataset("train", training=False)[0][1].max()) == 2
    labels = data.dataset("train", training=True)
    assert len(labels.annotations.categories) == 3 and set(labels.annotations.categories) == {2}
    assert {a["category_id"] for a in data.truth("val")["annotations"]} == {1}
    with pytest.raises(UserError, match="data.train_categories must name categories of the data, got 'cat'"):
        make_coco(coco_folder, train_categories=["cat"]).dataset("train", training=True)


def test_resize_keeps_the_shape_and_the_original_size(coco_folder: Path) -> None:
    image, labels, _, size, _ = make_coco(coco_folder, longest_side=32).dataset("val")[0]
    assert image.shape == (3, 24, 32) and labels.shape == (24, 32) and size == (48, 64)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}
    assert make_coco(coco_folder, longest_side=100).dataset("val")[0][0].shape == (3, 48, 64)


def test_crops_are_square_new_each_epoch_and_filled_with_void(coco_folder: Path) -> None:
    dataset = make_coco(coco_folder).dataset("train", training=True)
    first, again, later = dataset[0], dataset[0], dataset[len(dataset)]
    assert (
        first[0].shape == (3, 40, 40)
        and torch.equal(first[0], again[0])
        and not torch.equal(first[0], later[0])
    )
    image, labels, *_ = make_coco(coco_folder, crop=80).dataset("train", training=True)[0]
    inside = (labels != -1).nonzero()
    assert image.shape == (3, 80, 80) and int((labels == -1).sum()) >= 80 * 80 - 48 * 64
    (top, left), (bottom, right) = inside.min(0).values.tolist(), inside.max(0).values.tolist()
    assert bottom - top < 48 and right - left < 64
    assert torch.equal(image[:, top - 1], image[:, top]) or top == 0, "the row above mirrors the first"
    whole, mask = (
        tv_tensors.Image(torch.arange(100).reshape(1, 10, 10)),
        tv_tensors.Mask(torch.arange(100).reshape(10, 10)),
    )
    for seed in range(20):
        part, same = crop_randomly(whole, mask, 9, np.random.default_rng(seed))
        assert torch.equal(part[0], same) and part.shape == (1, 9, 9)


def test_cached_and_stretched_samples(coco_folder: Path) -> None:
    plain, cached = make_coco(coco_folder, crop=16), make_coco(coco_folder, crop=16, cache=True)
    for index in (0, 1, 0, 5):
        one, other = (
            plain.dataset("train", training=True)[index],
            cached.dataset("train", training=True)[index],
        )
        assert (
            torch.equal(one[0], other[0])
            and torch.equal(one[1], other[1])
            and one[2:4] == other[2:4]
            and torch.equal(one.categories, other.categories)
        )
    stretched = make_coco(coco_folder, percentile_range=[1, 99]).dataset("train")[0][0]
    assert float(stretched.min()) == 0 and float(stretched.max()) == 1


def test_the_made_data_of_the_memory_benchmark_can_be_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, "train2017", images=40, annotations=3000, scale=1)
    dataset = make_coco(tmp_path).dataset("train")
    assert isinstance(dataset, CocoImages) and int(dataset[0][1].max()) > 10


def test_sixteen_bit_images_are_read_as_they_are(coco_folder: Path) -> None:
    file = coco_folder / "train2017" / "000000000001.png"
    Image.fromarray(np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)).save(file)
    image = make_coco(coco_folder).dataset("train")[0][0]
    assert len(image.unique()) == 256 and float(image[0, 24, 0]) == pytest.approx(0.5, abs=0.01)
    assert float(
        make_coco(coco_folder, percentile_range=[25, 75]).dataset("train")[0][0].mean()
    ) == pytest.approx(0.5, abs=0.01)


def test_dense_ids() -> None:
    assert renumber(np.array([[0, 7], [-1, 3]])).tolist() == [[0, 2], [-1, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda truth: truth["annotations"][0].update(segmentation=[[5, 5, 5.1, 5, 5, 5.1]]),
            "annotation 1 in .* must have a mask with a pixel",
        ),
        (
            lambda truth: truth["annotations"][1].update(segmentation={"size": [48, 64], "counts": [3072]}),
            "annotation 2 in .* must have a mask with a pixel",
        ),
    ],
)
def test_masks_without_a_pixel_are_refused(coco_folder: Path, change, message: str) -> None:
    edit(coco_folder, change)
    with pytest.raises(UserError, match=message):
        make_coco(coco_folder).dataset("train")


def test_masks_without_a_pixel_may_be_skipped(coco_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(
        coco_folder,
        lambda truth: truth["annotations"][1].update(segmentation=[[5, 5, 5.1, 5, 5, 5.1]], area=50.0),
    )
    labels = make_coco(coco_folder, empty_masks="skip").dataset("train")[0][1]
    assert (
        set(labels.unique().tolist()) == {0, 1, 2}
        and len(make_coco(coco_folder, empty_masks="skip").truth("train")["annotations"]) == 10
    )
    with pytest.raises(UserError, match="data.empty_masks must be refuse or skip, got 'drop'"):
        make_coco(coco_folder, empty_masks="drop")
    # in large files it is seen when the image is read
    monkeypatch.setattr("rpe.data.annotation_check.MAX_DECODED_MASKS", 0)
    monkeypatch.setattr("rpe.data.annotation_check.SAMPLE_SIZE", 1)
    dataset = make_coco(coco_folder).dataset("train")
    with pytest.raises(
        UserError, match="annotation 2 in .* must have a mask with a pixel, got .*data.empty_masks=skip"
    ):
        dataset[0]


def test_polygons_a_little_over_the_border_are_cut_off(coco_folder: Path) -> None:
    edit(
        coco_folder,
        lambda truth: truth["annotations"][0].update(segmentation=[[-3, -2, 20, -2, 20, 10, -3, 10]]),
    )
    labels = make_coco(coco_folder).dataset("train")[0][1]
    assert (labels[:9, :11] > 0).all()


def test_split_names_and_the_missing_test_split(coco_folder: Path, tmp_path: Path) -> None:
    (coco_folder / "val2017").rename(coco_folder / "val")
    (coco_folder / "annotations" / "instances_val2017.json").rename(
        coco_folder / "annotations" / "instances_val.json"
    )
    assert make_coco(coco_folder).dataset("test")[0][2] == make_coco(coco_folder).dataset("val")[0][2] == 101


def test_missing_files_are_named(coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root must be a folder, got .*nowhere. Set data.root"):
        make_coco(tmp_path / "nowhere").dataset("train")
    (coco_folder / "train2017" / "000000000002.png").unlink()
    with pytest.raises(
        UserError, match=r"image .*000000000002.png must exist, as it is annotated, got none \(1 such\)"
    ):
        make_coco(coco_folder).dataset("train")
    (coco_folder / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(UserError, match=r"annotation file .*instances_val.json must exist, got none"):
        make_coco(coco_folder).dataset("val")


def test_the_truth_needs_no_images(coco_folder: Path) -> None:
    wanted = make_coco(coco_folder, eval_categories=["box"]).dataset("val").truth()
    shutil.rmtree(coco_folder / "val2017")
    assert make_coco(coco_folder, eval_categories=["box"]).truth("val") == wanted
    with pytest.raises(UserError, match="split must be one of train, val, test, got 'tset'"):
        make_coco(coco_folder).truth("tset")
    with pytest.raises(
        UserError, match=r"must hold an object of data.eval_categories \[\], got none but crowds"
    ):
        make_coco(coco_folder, eval_categories=[]).truth("val")
    edit(
        coco_folder,
        lambda truth: truth["annotations"][1].update(segmentation={"size": [48, 64], "counts": [3072]}),
        "val",
    )
    with pytest.raises(UserError, match="annotation 2 in .* must have a mask with a pixel"):
        make_coco(coco_folder).truth("val")


def test_images_that_do_not_decode_or_have_another_size(coco_folder: Path) -> None:
    file = coco_folder / "train2017" / "000000000001.png"
    good = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"000000000001.png must decode"):
        make_coco(coco_folder).dataset("train")
    file.write_bytes(good[: len(good) // 2])
    with pytest.raises(UserError, match=r"000000000001.png must decode"):
        make_coco(coco_folder).dataset("train")[0]
    Image.new("RGB", (10, 10)).save(file)
    with pytest.raises(UserError, match=r"must be 48 x 64 .height x width. as annotated, got 10 x 10"):
        make_coco(coco_folder).dataset("train")


def test_a_split_of_crowds_alone_or_without_any_object_is_refused(coco_folder: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"instances_val2017.json must hold an object of data.eval_categories \[\], got none but crowds",
    ):
        make_coco(coco_folder, eval_categories=[]).dataset("val")
    edit(
        coco_folder,
        lambda truth: [annotation.update(iscrowd=1) for annotation in truth["annotations"]],
        "val",
    )
    with pytest.raises(UserError, match="instances_val2017.json must hold an object, got none but crowds"):
        make_coco(coco_folder).dataset("val")


@pytest.mark.parametrize(("option", "value"), [("crop", 0), ("longest_side", 0), ("longest_side", -3)])
def test_lengths_are_positive(coco_folder: Path, option: str, value: int) -> None:
    with pytest.raises(UserError, match=f"data.{option} must be >= 1 in pixels, got {value}"):
        make_coco(coco_folder, **{option: value})


@pytest.mark.parametrize(
    ("name", "split", "images"), [("coco", "val", 79), ("coco", "train", 80), ("nuclei", "val", 50)]
)
def test_real_truth_as_results_recalls_everything(name: str, split: str, images: int) -> None:
    root = data_root() / name
    if not root.is_dir():
        pytest.skip(f"{root} is absent: set RPE_DATA_DIR to the real data")
    data = make_coco(root)
    dataset = data.dataset(split)
    assert isinstance(dataset, CocoImages) and len(dataset) == images
    truth = data.truth(split)
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    results = []
    for a in truth["annotations"]:
        if not a.get("iscrowd"):
            mask = compress(a["segmentation"], sizes[a["image_id"]])
            counts = mask["counts"].decode() if isinstance(mask["counts"], bytes) else mask["counts"]
            results.append(
                {
                    "image_id": a["image_id"],
                    "category_id": 1,
                    "score": 1.0,
                    "segmentation": {"size": list(mask["size"]), "counts": counts},
                }
            )
    assert average_recall(truth, results)["AR@1000"] == 1.0


@pytest.mark.parametrize("area", [0, 1.0, 300.0, None])
def test_what_lies_on_top_follows_from_the_masks_not_from_the_field(
    coco_folder: Path, area: float | None
) -> None:
    wanted = [make_coco(coco_folder).dataset("train")[index] for index in range(4)]
    edit(
        coco_folder,
        lambda truth: [
            a.update(area=1e6 - a["area"] if area is None else area) for a in truth["annotations"]
        ],
    )
    for index, before in enumerate(wanted):
        after = make_coco(coco_folder).dataset("train")[index]
        assert torch.equal(after.labels.unique(), before.labels.unique()) and torch.equal(
            after.labels > 0, before.labels > 0
        )
        assert torch.equal(after.labels, before.labels) and torch.equal(after.categories, before.categories)


@pytest.mark.parametrize("folder", ["", "sub \u00e9/"])
@pytest.mark.parametrize("there", ["caf\u00e9.png", "cafe\u0301.png"])
@pytest.mark.parametrize("written", ["caf\u00e9.png", "cafe\u0301.png"])
def test_files_are_found_in_either_form_of_their_letters(
    coco_folder: Path, folder: str, there: str, written: str
) -> None:
    images = coco_folder / "train2017"
    (images / folder).mkdir(exist_ok=True)
    (images / f"{1:012d}.png").rename(images / folder / there)
    edit(coco_folder, lambda truth: truth["images"][0].update(file_name=folder + written))
    sample = make_coco(coco_folder).dataset("train")[0]
    assert sample.image_id == 1 and float(sample.image[0, 5, 5]) > 0.8


def test_of_two_files_that_look_the_same_each_name_has_its_own(coco_folder: Path) -> None:
    images = coco_folder / "train2017"
    for number, name in ((1, "caf\u00e9.png"), (4, "cafe\u0301.png")):
        (images / f"{number:012d}.png").rename(images / name)
    edit(coco_folder, lambda truth: truth["images"][0].update(file_name="caf\u00e9.png"))
    edit(coco_folder, lambda truth: truth["images"].pop(3))
    assert make_coco(coco_folder).dataset("train")[0].size == (48, 64)


def test_two_ids_of_one_name_are_two_classes_and_all_their_objects(coco_folder: Path) -> None:
    edit(coco_folder, lambda truth: truth["categories"][1].update(name="box"))
    for names in (None, ["box"]):
        dataset = make_coco(coco_folder, crop=16, train_categories=names).dataset("train", training=True)
        assert dataset.classes == {1: "box", 2: "box"} and set(dataset.annotations.categories) == {1, 2}
    assert int(make_coco(coco_folder).dataset("train")[0].labels.max()) == 3


def test_one_file_in_two_entries_trains_no_network(coco_folder: Path) -> None:
    edit(coco_folder, lambda truth: truth["images"][1].update(file_name=truth["images"][0]["file_name"]))
    for training in (True, False):
        with pytest.raises(UserError, match="file_name in .* must be unique, got .* for images 1 and 2"):
            make_coco(coco_folder).dataset("train", training=training)


def turn_files(folder: Path, orientations: dict[int, int], stored: bool) -> list[np.ndarray]:
    """Save the images anew with EXIF orientations, upright as annotated or, if `stored`, with their pixels as annotated; return the pixels."""
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
    }
    turns |= {6: np.rot90, 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1)}
    kept = []
    for index, file in enumerate(sorted(folder.iterdir())):
        with Image.open(file) as image:
            pixels = np.array(image)
        if index in orientations:
            exif = Image.Exif()
            exif[0x0112] = orientations[index]
            Image.fromarray(pixels if stored else turns[orientations[index]](pixels)).save(file, exif=exif)
        kept.append(pixels)
    return kept


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_images_lie_as_their_masks(
    coco_folder: Path, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = coco_folder / "val2017"
    # the third image is square
    pixels = turn_files(folder, {0: orientation, 2: orientation}, stored=False)
    data = make_coco(coco_folder).dataset("val")
    for index, expected in enumerate(pixels):
        assert (
            data[index].image.permute(1, 2, 0) * 255 - torch.from_numpy(expected.copy())
        ).abs().max() < 0.01
    warning = capsys.readouterr().err
    assert (
        warning.count("\n") == 1
        and f"has the EXIF orientation {orientation}" in warning
        and "turned upright" in warning
    )


def test_masks_drawn_on_stored_pixels(coco_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coco_folder / "val2017"
    pixels = turn_files(folder, {0: 6, 1: 8}, stored=True)
    data = make_coco(coco_folder).dataset("val")
    for index, expected in enumerate(pixels):
        assert (
            data[index].image.permute(1, 2, 0) * 255 - torch.from_numpy(expected.copy())
        ).abs().max() < 0.01
    assert "EXIF" not in capsys.readouterr().err
    turn_files(folder, {3: 3}, stored=True)
    with pytest.raises(
        UserError,
        match=r"104.png must have no EXIF orientation, got 3: .* masks of .*101.png fit stored pixels alone",
    ):
        make_coco(coco_folder).dataset("val")


def test_pages_and_suffixes_are_named_before_training(coco_folder: Path) -> None:
    file = next(iter(sorted((coco_folder / "val2017").iterdir())))
    with Image.open(file) as image:
        image.save(file, "TIFF", save_all=True, append_images=[image.copy()])
    with pytest.raises(UserError, match="must have one page, got 2 pages. Save them as separate files"):
        make_coco(coco_folder).dataset("val")
    file.rename(file.with_suffix(".tif"))
    with pytest.raises(UserError, match=rf"must exist, .* got none .1 such; there is {file.stem}.tif."):
        make_coco(coco_folder).dataset("val")
