"""One scene in all forms; splits of a folder; what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scene_forms
from PIL import Image
from scene_forms import FORMS, make_scene, pixels_of, save, size_of

import evaluate
from rpe.data.folder import Folder
from rpe.rle import encode_mask
from rpe.run.building import build_data
from rpe.run.composing import compose_config
from rpe.structures import UserError


def make_folder(root: Path, **change: object) -> Folder:
    options = dict(
        name="folder",
        root=str(root),
        val_share=0.25,
        test_share=0.25,
        split_seed=0,
        batch_size=2,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
        longest_side=None,
        crop=40,
        train_categories=None,
        eval_categories=None,
        augment=None,
        void=None,
        empty_masks="refuse",
        percentile_range=None,
        cache=False,
    )
    return Folder(**(options | change))  # type: ignore[arg-type]


def by_size(labels: np.ndarray) -> np.ndarray:
    """Numbered by size, as label maps and mask files tell no order of drawing."""
    numbers = np.unique(labels[labels > 0])
    order = sorted(
        numbers.tolist(), key=lambda number: (-(labels == number).sum(), np.argmax(labels == number))
    )
    table = np.zeros(labels.max() + 1, dtype=np.int64)
    table[order] = np.arange(1, len(order) + 1)
    return np.where(labels < 0, labels, table[labels.clip(0)])


def test_one_scene_in_all_forms_gives_equal_labels_and_equal_recall(
    command_line: Callable[..., None], tmp_path: Path
) -> None:
    scene, figures = make_scene(), {}
    for form, (module, write) in FORMS.items():
        root = tmp_path / form
        write(root, scene)
        config = compose_config(
            [f"data={module}", f"data.root='{root}'", "data.num_workers=0", "data.longest_side=null"]
        )
        data = build_data(config)
        ids = {}
        for split, numbers in scene_forms.SPLITS.items():
            dataset = data.dataset(split)
            assert len(dataset) == 3
            for place, image in enumerate(numbers):
                sample = dataset[place]
                wanted = scene_forms.labels_of(scene[image], size_of(image))
                assert (by_size(sample.labels.numpy()) == by_size(wanted)).all(), (form, image)
                if form != "VOC PNG":  # its photographs are JPEG
                    seen = (sample.image * 255).round().permute(1, 2, 0).numpy()
                    assert (seen == pixels_of(image)).all(), (form, image)
                if form in ("COCO polygons", "YOLO", "labelme"):
                    names = [
                        dataset.classes[list(dataset.classes)[number - 1]]
                        for number in sample.categories.tolist()[1:]
                    ]
                    assert sorted(names) == sorted(name for name, _ in scene[image])
                ids[image] = sample.image_id
        random = np.random.default_rng(0)
        rows = []
        for image in scene_forms.SPLITS["val"]:
            for _, polygon in scene[image]:
                mask = np.roll(
                    scene_forms.mask_of(polygon, size_of(image)), random.integers(0, 4, size=2), axis=(0, 1)
                )
                rows.append(
                    {
                        "image_id": ids[image],
                        "segmentation": encode_mask(mask),
                        "score": float(random.random()),
                    }
                )
        (tmp_path / f"{form}.json").write_text(json.dumps(rows))
        out = tmp_path / f"out {form}"
        command_line(
            evaluate.main,
            f"predictions={tmp_path / f'{form}.json'}",
            f"data={module}",
            f"data.root={root}",
            f"hydra.run.dir={out}",
        )
        figures[form] = json.loads((out / "metrics.json").read_text())["metrics"]
    first = figures["COCO polygons"]
    assert 0.3 < first["AR@10"] < 0.9
    assert all(figures[form] == pytest.approx(first, abs=1e-12) for form in FORMS), figures


def write_flat(root: Path, count: int) -> None:
    for number in range(count):
        labels = np.zeros((20, 24), dtype=np.uint8)
        labels[2:9, 3:9], labels[10:15, 10:20] = 1, 2
        save(root / f"{number}.png", np.full((20, 24), number, dtype=np.uint8))
        save(root / f"{number}_masks.png", labels)


def names_of(data: Folder, split: str) -> list[str]:
    return [image["file_name"] for image in data.truth(split)["images"]]


def test_a_folder_without_subfolders_is_shared_out_by_its_own_seed(tmp_path: Path) -> None:
    write_flat(tmp_path, 12)
    data = make_folder(tmp_path)
    parts = {split: set(names_of(data, split)) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [6, 3, 3] and len(set.union(*parts.values())) == 12
    assert {split: set(names_of(make_folder(tmp_path, seed=5), split)) for split in parts} == parts, (
        "the run's seed has no say"
    )
    assert set(names_of(make_folder(tmp_path, split_seed=1), "val")) != parts["val"]
    assert names_of(make_folder(tmp_path, test_share=0.0), "test") == names_of(
        make_folder(tmp_path, test_share=0.0), "val"
    )
    sample = data.dataset("train", training=True)[0]
    assert (
        sample.image.shape == (3, 40, 40)
        and int((sample.labels == -1).sum()) >= 40 * 40 - 20 * 24
        and int(sample.labels.max()) == 2
    )
    known = {image["id"]: image["file_name"] for split in parts for image in data.truth(split)["images"]}
    assert len(known) == 12, "ids count the whole folder, so that another split's predictions do not fit"
    for number in range(10, 12):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(UserError, match=r"must have an image of its name, got none \(2 such\)"):
        make_folder(tmp_path).truth("val")


def test_val_is_a_share_of_train_where_only_train_and_test_lie_there(tmp_path: Path) -> None:
    write_flat(tmp_path / "train", 8)
    write_flat(tmp_path / "test", 3)
    data = make_folder(tmp_path)
    assert [len(names_of(data, split)) for split in ("train", "val", "test")] == [6, 2, 3]
    assert not set(names_of(data, "train")) & set(names_of(data, "val"))
    shutil.move(tmp_path / "test", tmp_path / "valid")
    data = make_folder(tmp_path)
    assert [len(names_of(data, split)) for split in ("train", "val", "test")] == [8, 3, 3]
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(UserError, match="data.root must hold train beside val, got none"):
        make_folder(tmp_path).truth("val")


def test_categories_have_one_id_in_all_splits(tmp_path: Path) -> None:
    scene = make_scene()
    scene[0] = scene[1] = scene[2] = [("zebra", scene[0][0][1])]
    scene_forms.write_labelme(tmp_path, scene)
    data = make_folder(tmp_path)
    assert data.dataset("train").classes == data.dataset("val").classes == {1: "cat", 2: "dog", 3: "zebra"}
    assert {annotation["category_id"] for annotation in data.truth("train")["annotations"]} == {3}
    assert {
        a["category_id"] for a in make_folder(tmp_path, eval_categories=["dog"]).truth("val")["annotations"]
    } == {2}
    with pytest.raises(UserError, match="data.train_categories must name categories of the data, got 'cow'"):
        make_folder(tmp_path, train_categories=["cow"]).dataset("train", training=True)


def test_void_is_told_apart_and_empty_masks_are_refused_or_left_out(tmp_path: Path) -> None:
    write_flat(tmp_path, 4)
    data = make_folder(tmp_path, void=2)
    assert set(data.dataset("val")[0].labels.unique().tolist()) == {-1, 0, 1}
    assert [(a["iscrowd"], a.get("void", False)) for a in data.truth("val")["annotations"]] == [
        (0, False),
        (1, True),
    ]
    other = tmp_path / "dsb"
    scene_forms.write_dsb(other, make_scene())
    save(other / "val" / "id3" / "masks" / "9.png", np.zeros(size_of(3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"9.png must cover a pixel, got none. .* data.empty_masks=skip"):
        make_folder(other).truth("val")
    assert len(make_folder(other, empty_masks="skip").truth("val")["annotations"]) == 10


def test_foreground_masks_are_no_label_maps(tmp_path: Path) -> None:
    write_flat(tmp_path, 4)
    for number in range(4):
        mask = np.array(Image.open(tmp_path / f"{number}_masks.png")) > 0
        save(tmp_path / f"{number}_masks.png", 255 * mask.astype(np.uint8))
    with pytest.raises(
        UserError, match=r"label maps must number the objects 1, 2, .., got foreground alone \(0 and 255\)"
    ):
        make_folder(tmp_path).dataset("train")


def test_sizes_that_differ_are_refused(tmp_path: Path) -> None:
    write_flat(tmp_path, 4)
    save(tmp_path / "1.png", np.zeros((24, 20), dtype=np.uint8))
    with pytest.raises(UserError, match=r"1.png must be 20 x 24 .height x width. as annotated, got 24 x 20"):
        for split in ("train", "val", "test"):
            make_folder(tmp_path).dataset(split)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"val_share": 0.0},
            "data.val_share and data.test_share must leave images for training, got 0 and 0.25",
        ),
        ({"val_share": 0.8}, "must leave images for training, got 0.8 and 0.25"),
        ({"empty_masks": "keep"}, "data.empty_masks must be refuse or skip, got 'keep'"),
        ({"root": "nowhere"}, "data.root must be a folder, got nowhere"),
    ],
)
def test_slips(tmp_path: Path, change: dict, message: str) -> None:
    write_flat(tmp_path, 4)
    with pytest.raises(UserError, match=message):
        make_folder(Path(str(change.pop("root", tmp_path))), **change).truth("val")


def test_too_few_images_to_share_out(tmp_path: Path) -> None:
    write_flat(tmp_path, 2)
    with pytest.raises(UserError, match="must hold at least 3 images to be split, got 2"):
        make_folder(tmp_path).truth("val")
