"""Perfect masks have perfect metrics, one wrong class costs what it should, and the tables hold the metrics."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

import rpe.run
from rpe.data.digits import DigitScenes
from rpe.rle import encode_labels
from rpe.segment import class_probability
from rpe.structures import FeatureMap, Geometry, InstanceBatch, Proposals, UserError
from rpe.task.classes import (
    ClassEvaluator,
    ClassReport,
    explain_zero_precision,
    name_class_maps,
    score_class_maps,
    score_results,
)

SCENES = DigitScenes("val", 6, 0)


def report(wrong: tuple[int, int] | None = None, with_proposals: bool = True) -> ClassReport:
    """Oracle masks and probabilities; `wrong` is an image and one of its labels that is taken for the next class."""
    evaluator, truth, examined = ClassEvaluator(10, 1), SCENES.truth(), {}
    for index in range(len(SCENES)):
        _, labels, image_id, size, categories = SCENES[index]
        categories = categories.clone()
        if wrong is not None and wrong[0] == image_id:
            categories[wrong[1]] = categories[wrong[1]] % 10 + 1
        logits = 30 * torch.nn.functional.one_hot(categories[labels], 11).permute(2, 0, 1).float()[None]
        masks = encode_labels(labels.numpy(), np.arange(1, int(labels.max()) + 1))
        proposals = Proposals(masks, np.linspace(0.9, 0.8, len(masks)), size)
        examined[image_id] = evaluator.evaluate_image(
            class_probability(FeatureMap(logits, 1), Geometry(size, size)),
            proposals if with_proposals else None,
        )
    evaluator.count(truth, examined)
    confusion = evaluator.pop_confusion()
    assert not evaluator.confusion.compute().any(), "the next validation begins at nothing"
    return evaluator.make_report(truth, examined, confusion, "own")


def test_oracle_masks_with_oracle_classes() -> None:
    figures = report().metrics
    assert figures["mIoU"] == figures["accuracy"] == 1.0
    assert {figures[name] for name in figures if name.startswith("IoU-")} == {1.0}
    for name in ("AP", "APr50", "APr70"):
        assert figures[name] == pytest.approx(1.0, abs=1e-12)
    assert figures["components-AP"] < 1, "digits of one class that touch are one part"


def test_one_wrong_class() -> None:
    truth = SCENES.truth()
    (first, *_) = truth["annotations"]
    ids = [a["category_id"] for a in truth["annotations"]]
    was = first["category_id"]
    became = was % 10 + 1
    right, wrong = report().metrics, report(wrong=(1, 1)).metrics
    pixels = {
        number: sum(a["area"] for a in truth["annotations"] if a["category_id"] == number)
        for number in range(1, 11)
    }
    everything = len(SCENES) * 64 * 64
    assert wrong["accuracy"] == pytest.approx(1 - first["area"] / everything)
    assert wrong[f"IoU-{was - 1}"] == pytest.approx(1 - first["area"] / pixels[was])
    assert wrong[f"IoU-{became - 1}"] == pytest.approx(pixels[became] / (pixels[became] + first["area"]))
    present = 1 + len(set(ids) | {became})
    lost = (
        2 - wrong[f"IoU-{was - 1}"] - wrong[f"IoU-{became - 1}"]
        if became in ids
        else 1 - wrong[f"IoU-{was - 1}"] + 1
    )
    assert wrong["mIoU"] == pytest.approx(1 - lost / present)
    # its own class misses one of its objects; it stands first, so that of the other class each precision k / k becomes k / (k + 1)
    missed = ids.count(was) - 1
    assert wrong[f"APr50-{was - 1}"] == pytest.approx(
        len([r for r in range(101) if r / 100 <= missed / ids.count(was)]) / 101 if missed else 0.0
    )
    assert {name for name in right if right[name] != pytest.approx(wrong[name], abs=1e-9)} >= {
        "mIoU",
        "accuracy",
        "AP",
        "APr50",
        "APr70",
    }
    untouched = {f"APr50-{number - 1}" for number in ids} - {f"APr50-{was - 1}", f"APr50-{became - 1}"}
    assert untouched and all(wrong[name] == pytest.approx(1.0) for name in untouched)


def test_the_files_say_what_the_figures_say() -> None:
    whole = report()
    files = whole.files()
    assert set(files) == {
        "classes.csv",
        "classes.md",
        "instances.json",
        "components.json",
        *(f"classes/val-{index}.png" for index in range(6)),
    }
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO(str(files["classes.csv"])))}
    assert (
        list(rows) == ["background", *map(str, range(10))]
        and rows["background"]["AP"] == ""
        and float(rows["background"]["IoU"]) == 1
    )
    objects = [a["category_id"] for a in SCENES.truth()["annotations"]]
    assert {name: int(float(row["objects"])) for name, row in rows.items() if row["objects"]} == {
        str(k): objects.count(k + 1) for k in range(10)
    }
    assert str(files["classes.md"]).count("\n") == 13
    instances = json.loads(str(files["instances.json"]))
    assert sorted(row["category_id"] for row in instances) == sorted(objects) and max(
        row["score"] for row in instances
    ) == pytest.approx(0.9)
    assert "instances.json" not in report(with_proposals=False).files()


def test_results_and_maps_from_files_have_the_same_figures(tmp_path) -> None:
    whole, truth = report(wrong=(1, 1)), SCENES.truth()
    again = score_results(truth, whole.results["instances"], "own")
    assert again.metrics == {
        name: value for name, value in whole.metrics.items() if name.startswith("AP")
    } and again.files().keys() == {
        "classes.csv",
        "classes.md",
    }
    for path, content in whole.maps.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    maps = score_class_maps(truth, tmp_path / "classes")
    assert maps.metrics == {name: value for name, value in whole.metrics.items() if "AP" not in name}


def test_classes_of_the_data_must_be_the_heads() -> None:
    evaluator = ClassEvaluator(2, 1)
    with pytest.raises(
        UserError,
        match="head.classes must be the data's 3 categories .a, b, c ..., got 2. Set head.classes=3",
    ):
        evaluator.check_classes({1: "a", 2: "b", 3: "c"})
    evaluator.check_classes({1: "a", 2: "b"})
    evaluator.check_classes({1: "a", 2: "b"})
    evaluator.check_classes({5: "a", 70: "b"})  # a class is known by its name, whatever its id
    assert evaluator.categories == {1: "a", 2: "b"}, "the ids are those of the training"
    with pytest.raises(
        UserError,
        match="class 2 of the data must be 'b', as in the training and in other splits, got 'c'. List the same names",
    ):
        evaluator.check_classes({1: "a", 2: "c"})


def test_names_of_maps_are_never_shared() -> None:
    images = [{"id": 5, "file_name": "a/x.jpg"}, {"id": 6, "file_name": "b/y.png"}]
    assert name_class_maps({"images": images}) == {5: "x", 6: "y"}
    images[1]["file_name"] = "b/x.jpg"
    assert name_class_maps({"images": images}) == {5: "5", 6: "6"}


def test_batches_know_the_class_of_each_pixel() -> None:
    labels = torch.tensor([[[0, 1, -1]], [[2, 2, 0]]])
    batch = InstanceBatch(
        torch.zeros(2, 3, 1, 3), labels, [1, 2], [(1, 3)] * 2, [torch.tensor([0, 7]), torch.tensor([0, 4, 9])]
    )
    assert batch.classes().tolist() == [[[0, 7, -1]], [[9, 9, 0]]]


def test_a_checkpoint_that_knows_names_alone_counts_its_classes() -> None:
    with initialize_config_dir(str(Path(__file__).parent.parent.parent / "conf"), version_base="1.3"):
        task = rpe.run.build_task(
            compose("train", ["experiment=digits_semantic", "backbone.width=4", "backbone.levels=2"])
        )
    task.on_load_checkpoint({"classes": ["a", "b"]})
    assert task.class_evaluator.categories == {1: "a", 2: "b"}
    task.on_load_checkpoint({"classes": {7: "a", 44: "b"}})
    assert task.class_evaluator.categories == {7: "a", 44: "b"}


def test_classes_of_one_name_have_figures_of_their_own() -> None:
    truth = SCENES.truth()
    truth = {
        **truth,
        "categories": [
            {"id": one["id"], "name": "background" if one["id"] == 1 else "digit"}
            for one in truth["categories"]
        ],
    }
    rows = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "segmentation": a["segmentation"],
            "score": 0.5 + a["id"] / 1e6,
        }
        for a in truth["annotations"]
        if a["category_id"] != 4
    ]
    found = score_results(truth, rows, "own")
    assert found.names == [
        "background",
        "background (id 1)",
        *(f"digit (id {number})" for number in range(2, 11)),
    ]
    present = {a["category_id"] for a in truth["annotations"]}
    assert {1, 4} < present
    figures = {name: value for name, value in found.metrics.items() if name.startswith("APr50-")}
    label = {1: "background (id 1)"} | {number: f"digit (id {number})" for number in range(2, 11)}
    assert figures == {
        f"APr50-{label[number]}": 0.0 if number == 4 else pytest.approx(1.0) for number in present
    }
    assert len(str(found.files()["classes.csv"]).splitlines()) == 12


def test_names_of_classes_are_compared_by_what_they_look_like() -> None:
    evaluator = ClassEvaluator(1, 1)
    evaluator.check_classes({1: "caf\u00e9"})
    evaluator.check_classes({1: "cafe\u0301"})


def test_masks_of_categories_without_an_object_are_told() -> None:
    truth = SCENES.truth()
    objects = sorted({a["category_id"] for a in truth["annotations"]})
    assert explain_zero_precision(truth, [{"category_id": float(objects[0])}, {"category_id": 99}]) == []
    (line,) = explain_zero_precision(truth, [{"category_id": 99}])
    assert line.startswith(f"no mask has the category of an object: masks have 99, objects {objects[0]}, ")
    assert explain_zero_precision(truth, []) == [
        "the predictions hold no mask, so recall and precision are 0"
    ]
