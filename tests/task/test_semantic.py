"""The same start and batches with and without the grouping loss; metrics of runs, results files and class maps equal pycocotools called by hand."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from classed_results import by_hand, noisy
from hydra import compose, initialize_config_dir
from miniature_voc import write_sbd, write_voc
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny import tiny

import evaluate
import predict
import rpe.run
import train
from rpe.data.module import InstanceData, data_root
from rpe.structures import UserError
from rpe.task.semantic import SemanticTask

CONF = Path(__file__).parent.parent.parent / "conf"
TINY = [*tiny(4, 3, 3, experiment="digits_semantic"), "grouping.iterations=1"]
VOC = [
    "backbone=timm",
    "backbone.model=resnet10t",
    "backbone.width=8",
    "data.batch_size=2",
    "data.crop=48",
    "data.longest_side=96",
    "data.num_workers=0",
    "loss.pairwise.num_pixels=64",
    "trainer.max_epochs=1",
    "callbacks.pictures.images=1",
]
CommandLine = Callable[..., None]


def make(*overrides: str) -> tuple[SemanticTask, InstanceData]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=digits_semantic", *overrides])
        torch.manual_seed(0)
        data, task = rpe.run.build_data(config), rpe.run.build_task(config)
    assert isinstance(task, SemanticTask) and isinstance(data, InstanceData)
    return task, data


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with classes and groups, made through the command line and evaluated."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *TINY, "trainer.max_epochs=1", f"hydra.run.dir={folder}"])
        rpe.run.run_command(train.main)
        patch.setattr(sys, "argv", ["evaluate.py", f"run={folder}", "proposal.foreground_thresholds=[0.2]"])
        rpe.run.run_command(evaluate.main)
    return folder


def test_with_and_without_the_grouping_loss_all_starts_alike() -> None:
    """The same weights, the same batches in the same order, as many steps: what is compared is the loss alone."""
    variants = [
        make(*TINY, *change)
        for change in (["loss.pairwise.weight=0"], ["grouping.iterations=0"], ["grouping.iterations=3"])
    ]
    states = [task.state_dict() for task, _ in variants]
    for state in states[1:]:
        assert state.keys() == states[0].keys() and all(
            torch.equal(state[name], states[0][name]) for name in state
        )
    batches = [list(data.train_dataloader()) for _, data in variants]
    for others in batches[1:]:
        assert all(
            torch.equal(one.images, other.images) and one.image_ids == other.image_ids
            for one, other in zip(batches[0], others, strict=True)
        )


def test_without_the_grouping_loss_the_classes_alone_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = next(iter(make(*TINY)[1].train_dataloader()))
    monkeypatch.setattr(SemanticTask, "current_epoch", 0)
    monkeypatch.setattr(SemanticTask, "global_rank", 0)
    monkeypatch.setattr(SemanticTask, "trainer", SimpleNamespace(world_size=1))
    losses, gradients = {}, {}
    for weight in ("0", "2"):
        task, _ = make(*TINY, f"loss.pairwise.weight={weight}")
        task.training_step(batch, 1).backward()
        losses[weight] = task.means.pop(task.device)
        gradients[weight] = {
            name for name, parameter in task.named_parameters() if parameter.grad is not None
        }
        trained = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
        assert gradients[weight] == trained, (
            "a rank that waits for a gradient that never comes would stop the others"
        )
    assert (
        losses["0"].keys() == {"train/classes", "train/loss"}
        and losses["0"]["train/loss"] == losses["0"]["train/classes"]
    )
    assert losses["2"].keys() == {"train/classes", "train/loss", "train/pairwise_0", "train/pairwise_1"}
    assert torch.equal(losses["0"]["train/classes"], losses["2"]["train/classes"]), (
        "the classes' term is the same either way"
    )
    only = gradients["2"] - gradients["0"]
    assert only and all(name.startswith("model.embedding.") for name in only)


def test_the_written_results_have_the_figures_by_pycocotools_called_by_hand(run: Path) -> None:
    folder = run / "evaluation" / "digits-val"
    rows = json.loads((folder / "instances.json").read_text())
    assert rows
    truth = make(*TINY)[1].truth("val")
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = truth
        ground.createIndex()
        for name, prefix in (("instances", ""), ("components", "components-")):
            evaluation = COCOeval(ground, ground.loadRes(str(folder / f"{name}.json")), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            precision = evaluation.eval["precision"][..., 0, 2]
            assert figures(folder)[f"{prefix}AP"] == pytest.approx(precision[precision > -1].mean(), abs=1e-6)
            assert figures(folder)[f"{prefix}APr50"] == pytest.approx(
                precision[0][precision[0] > -1].mean(), abs=1e-6
            )
            assert figures(folder)[f"{prefix}APr70"] == pytest.approx(
                precision[4][precision[4] > -1].mean(), abs=1e-6
            )
            for index in range(10):
                if not prefix and precision[0, 0, index] > -1:
                    assert figures(folder)[f"APr50-{index}"] == pytest.approx(
                        precision[0, :, index].mean(), abs=1e-6
                    )
                elif not prefix:
                    assert f"APr50-{index}" not in figures(folder)


def test_a_run_leaves_tables_maps_and_pictures(run: Path) -> None:
    folder = run / "evaluation" / "digits-val"
    assert {path.name for path in folder.iterdir()} == {
        "evaluate.log",
        "metrics.json",
        "proposals.json",
        "instances.json",
        "components.json",
        "classes.csv",
        "images.csv",
        "reliability.csv",
        "classes.md",
        "classes",
        "pictures",
    }
    assert {path.name for path in (folder / "classes").iterdir()} == {
        f"val-{index}.png" for index in range(3)
    }
    assert {"classes.png", "confusion.png", "val-1.png"} <= {
        path.name for path in [*(folder / "pictures").iterdir(), *(run / "pictures").iterdir()]
    }
    assert {
        "mIoU",
        "accuracy",
        "IoU-background",
        "AP",
        "APr50",
        "APr70",
        "components-AP",
        "AR@10",
        "ARI-modes",
        "PQ",
    } <= figures(run).keys()
    # what is class-agnostic stays so: one category, the mask's own score, the same masks
    proposals, instances = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("proposals", "instances")
    )
    assert {row["category_id"] for row in proposals} == {1} and len(proposals) == len(instances)
    assert {row["segmentation"]["counts"] for row in proposals} == {
        row["segmentation"]["counts"] for row in instances
    }


def test_results_files_have_pycocotools_metrics_through_the_command_line(
    command_line: CommandLine, tmp_path: Path
) -> None:
    truth = make("data.val_scenes=6")[1].truth("val")
    rows = noisy(truth, 3)
    (tmp_path / "results.json").write_text(json.dumps(rows))
    command_line(
        evaluate.main,
        "task=semantic",
        f"predictions={tmp_path / 'results.json'}",
        "data=digits",
        "data.val_scenes=6",
        f"hydra.run.dir={tmp_path}",
    )
    found, wanted = figures(tmp_path), by_hand(truth, rows)
    assert (
        found["images"] == 6
        and len(wanted) > 5
        and {value for name, value in found.items() if "APr" in name} - {0.0, 1.0}
    )
    assert {name for name in found if name.startswith("APr50-")} == {
        f"APr50-{category - 1}" for category in wanted
    }
    for category, precision in wanted.items():
        assert found[f"APr50-{category - 1}"] == pytest.approx(precision[0], abs=1e-6)
    assert found["AP"] == pytest.approx(np.mean(list(wanted.values())), abs=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {
        "evaluate.log",
        "results.json",
        "metrics.json",
        "classes.csv",
        "classes.md",
        "pictures",
    }


def test_class_maps_have_the_metrics_of_the_run_that_wrote_them(
    run: Path, command_line: CommandLine, refused: Callable[..., str], tmp_path: Path
) -> None:
    ours, data = run / "evaluation" / "digits-val", ["data=digits", "data.val_scenes=3", "task=semantic"]
    command_line(
        evaluate.main, f"predictions={ours / 'classes'}", *data, f"hydra.run.dir={tmp_path / 'maps'}"
    )
    wanted = {
        name: value
        for name, value in figures(ours).items()
        if name in ("mIoU", "accuracy", "images") or name.startswith("IoU-")
    }
    assert figures(tmp_path / "maps") == pytest.approx(wanted, abs=1e-9)
    command_line(
        evaluate.main,
        f"predictions={ours / 'classes'}",
        *data,
        "names=[val-1]",
        f"hydra.run.dir={tmp_path / 'named'}",
    )
    assert figures(tmp_path / "named")["images"] == 1
    line = refused(
        evaluate.main,
        f"predictions={ours / 'classes'}",
        "data=digits",
        "data.val_scenes=4",
        "task=semantic",
        f"hydra.run.dir={tmp_path / 'x'}",
    )
    assert "val-3.png must exist, got none (1 such)" in line


def test_a_run_is_not_examined_on_other_classes(
    run: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert state["classes"] == {digit + 1: str(digit) for digit in range(10)}
    monkeypatch.setattr("rpe.data.digits.NAMES", ["zero", *list(state["classes"].values())[1:]])
    assert "class 1 of the data must be '0', as in the training and in other splits, got 'zero'" in refused(
        evaluate.main, f"run={run}"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["experiment=digits", "task=semantic"],
            "loss must be SemanticLoss for rpe.task.semantic.SemanticTask, got InstanceLoss",
        ),
        (
            ["experiment=digits", "task=semantic", "loss=semantic"],
            "head and loss must fit, got Objectness and SemanticLoss. head=semantic needs loss=semantic",
        ),
        (["experiment=digits", "head=semantic"], "head and loss must fit, got Classifier and InstanceLoss"),
        (
            ["experiment=digits_semantic", "head.classes=7"],
            "head.classes must be the data's 10 categories (0, 1, 2, 3, 4 ..), got 7. Set head.classes=10",
        ),
        (["experiment=digits_semantic", "head.classes=0"], "head.classes must be in [1, 254], got 0"),
        (
            ["experiment=digits_semantic", "loss.pairwise.weight=-1"],
            "loss.pairwise.weight must be finite and >= 0, got -1",
        ),
        (
            ["experiment=digits", "head=semantic", "loss=semantic", "loss.pairwise.weight=0"],
            "loss.pairwise.weight must be > 0, got 0. task=semantic trains classes without groups",
        ),
    ],
)
def test_mistakes_are_refused(
    arguments: list[str], message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert message in refused(train.main, *arguments, f"hydra.run.dir={tmp_path / 'run'}")


def test_an_instance_task_can_carry_classes(command_line: CommandLine, tmp_path: Path) -> None:
    command_line(
        train.main,
        *tiny(4, 3, 3),
        "head=semantic",
        "loss=semantic",
        "ranker=learned",
        "trainer.max_epochs=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert {"AR@10", "mIoU", "AP", "components-AP"} <= figures(tmp_path / "run").keys()


def test_coco_with_ids_that_have_gaps(command_line: CommandLine, coco_folder: Path, tmp_path: Path) -> None:
    """Classes count from 1 by ascending id; what is written has the ids of the file, and the oracle's masks with them have AP 1, the crowd or not."""
    for file in (coco_folder / "annotations").iterdir():
        truth = json.loads(file.read_text())
        truth["categories"] = [{"id": 44, "name": "brick"}, {"id": 7, "name": "box"}]
        for annotation in truth["annotations"]:
            annotation["category_id"] = {1: 7, 2: 44}[annotation["category_id"]]
        file.write_text(json.dumps(truth))
    coco = [f"data.root={coco_folder}", "data.crop=32", "data.num_workers=0", "head.classes=2"]
    tiny = [
        "backbone.width=8",
        "backbone.levels=2",
        "data.batch_size=2",
        "loss.pairwise.num_pixels=64",
        "trainer.max_epochs=1",
        "callbacks.pictures.images=0",
    ]
    command_line(
        train.main,
        "experiment=digits_semantic",
        "data=coco",
        *coco,
        *tiny,
        "head.upscale=1",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    command_line(evaluate.main, f"run={tmp_path / 'run'}")
    folder = tmp_path / "run" / "evaluation" / "coco-val"
    assert {"mIoU", "IoU-background", "IoU-box", "IoU-brick", "AP"} <= figures(
        folder
    ).keys() and "APr50-brick" in figures(folder)
    rows = json.loads((folder / "components.json").read_text()) + json.loads(
        (folder / "instances.json").read_text()
    )
    assert {row["category_id"] for row in rows} <= {7, 44}
    surely = ["proposal.foreground_thresholds=[0.05]", "proposal.score_threshold=0", "proposal.min_area=1"]
    command_line(
        predict.main,
        f"run={tmp_path / 'run'}",
        f"images={coco_folder / 'val2017'}",
        f"output={tmp_path / 'found'}",
        *surely,
    )
    names = yaml.safe_load((tmp_path / "found" / "predictions.yaml").read_text())["categories"]
    assert names == {7: "box", 44: "brick"}
    found = json.loads((tmp_path / "found" / "results.json").read_text())
    table = list(csv.DictReader((tmp_path / "found" / "objects.csv").open()))
    assert found and [names[row["category_id"]] for row in found] == [row["class"] for row in table]
    truth = COCO(str(coco_folder / "annotations" / "instances_val2017.json"))
    oracle = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "score": 0.9 - a["iscrowd"],
            "segmentation": truth.annToRLE(a),
        }
        for a in truth.dataset["annotations"]
    ]
    for row in oracle:
        row["segmentation"]["counts"] = (
            row["segmentation"]["counts"].decode()
            if isinstance(row["segmentation"]["counts"], bytes)
            else row["segmentation"]["counts"]
        )
    (tmp_path / "oracle.json").write_text(json.dumps(oracle))
    command_line(
        evaluate.main,
        "task=semantic",
        f"predictions={tmp_path / 'oracle.json'}",
        "data=coco",
        f"data.root={coco_folder}",
        f"hydra.run.dir={tmp_path}",
    )
    found = figures(tmp_path)
    assert [found[name] for name in ("AP", "APr50", "APr70", "APr50-box", "APr50-brick")] == pytest.approx(
        [1.0] * 5
    )


@pytest.mark.parametrize(
    ("layout", "experiment"),
    [("miniature", "voc_semantic"), pytest.param("real", "voc_instance", marks=pytest.mark.slow)],
)
def test_voc_and_sbd_train_and_evaluate(
    layout: str, experiment: str, command_line: CommandLine, tmp_path: Path
) -> None:
    root = write_sbd(write_voc(tmp_path / "data")) if layout == "miniature" else data_root()
    if not (root / "VOCdevkit").is_dir():
        pytest.skip(f"{root / 'VOCdevkit'} is absent: set RPE_DATA_DIR to the real data")
    command_line(
        train.main, f"experiment={experiment}", f"data.root={root}", *VOC, f"hydra.run.dir={tmp_path / 'run'}"
    )
    command_line(evaluate.main, f"run={tmp_path / 'run'}")
    found = figures(tmp_path / "run" / "evaluation" / "voc-val")
    assert found["images"] == 3 and {"mIoU", "AP", "APr50", "APr70", "AR@10"} <= found.keys()
    with Image.open(next((tmp_path / "run" / "evaluation" / "voc-val" / "classes").iterdir())) as image:
        assert image.mode == "P" and max(image.size) > 64, "at the original size"


def test_void_in_the_files_changes_neither_loss_nor_miou(command_line: CommandLine, tmp_path: Path) -> None:
    """Two copies of the miniature: in one, the pixels that are void in the masks have another colour in the class maps that are scored."""
    root = write_voc(tmp_path / "data")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = rpe.run.build_data(compose("train", ["data=voc", f"data.root={root}"]))
    folder = tmp_path / "maps"
    scores = []
    for wrong in (0, 7):
        folder.mkdir(exist_ok=True)
        dataset = data.dataset("val")
        for sample in (dataset[index] for index in range(len(dataset))):
            classes = sample.categories[sample.labels.clamp(min=0)].numpy()
            name = str(sample.image_id)
            classes = np.where(sample.labels.numpy() == -1, wrong, classes).astype(np.uint8)
            Image.fromarray(classes).save(folder / f"{name[:4]}_{name[4:]}.png")
        command_line(
            evaluate.main,
            "task=semantic",
            f"predictions={folder}",
            "data=voc",
            f"data.root={root}",
            f"hydra.run.dir={tmp_path / str(wrong)}",
        )
        scores.append(figures(tmp_path / str(wrong)))
    assert scores[0] == scores[1] and scores[0]["mIoU"] == scores[0]["accuracy"] == 1.0


def test_a_loss_that_groups_nothing_is_no_instance_task() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["head=semantic", "loss=semantic", "loss.pairwise.weight=0"])
        with pytest.raises(UserError, match="loss.pairwise.weight must be > 0"):
            rpe.run.build_task(config)
