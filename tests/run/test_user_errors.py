"""Errors of a user: one line with key and remedy, exit status 1, before network and data are built if possible."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import train
from rpe.data.module import SplitData
from rpe.run import building

Refused = Callable[..., str]

BY_TYPE = [
    ("optimizer.lr=abc", "optimizer.lr must be a number, got 'abc'"),
    ("optimizer.lr=null", "optimizer.lr must be a number, got null"),
    ("optimizer.lr=nan", "optimizer.lr must be a number, got nan"),
    ("optimizer.weight_decay=abc", "optimizer.weight_decay must be a number, got 'abc'"),
    ("grouping.iterations=1.5", "grouping.iterations must be an integer, got 1.5"),
    ("grouping.iterations=abc", "grouping.iterations must be an integer, got 'abc'"),
    ("grouping.bandwidth=abc", "grouping.bandwidth must be a number or null, got 'abc'"),
    ("schedule.warmup=abc", "schedule.warmup must be a number, got 'abc'"),
    ("trainer.max_epochs=abc", "trainer.max_epochs must be an integer or null, got 'abc'"),
    ("trainer.precision=abc", "trainer.precision must be 64 or 32 or 16 or 'transformer-engine'"),
    (
        "trainer.accumulate_grad_batches=2.5",
        "trainer.accumulate_grad_batches must be an integer, got 2.5",
    ),
    (
        "trainer.deterministic=perhaps",
        "trainer.deterministic must be true or false or 'warn' or null, got 'perhaps'",
    ),
    ("backbone.width=abc", "backbone.width must be an integer, got 'abc'"),
    ("backbone.width=", "backbone.width must be an integer, got ''"),
    ("backbone.width=true", "backbone.width must be an integer, got true"),
    ("embedding.dimension=1.5", "embedding.dimension must be an integer, got 1.5"),
    ("embedding.dimension=abc", "embedding.dimension must be an integer, got 'abc'"),
    ("data.crop=null data=coco", "data.crop must be an integer, got null"),
    (
        "data.train_categories=person data=coco",
        "data.train_categories must be a list of names or null, got 'person'. Write [person]",
    ),
    ("data.train_scenes=many", "data.train_scenes must be an integer, got 'many'"),
    ("proposal.bandwidths=0.3", "proposal.bandwidths must be a list of numbers, got 0.3. Write [0.3]"),
    ("proposal.bandwidths=[a]", "proposal.bandwidths must be a list of numbers, got ['a']"),
    ("loss.pairwise.margin=abc", "loss.pairwise.margin must be a number, got 'abc'"),
    ("loss.pairwise.num_pixels=abc", "loss.pairwise.num_pixels must be an integer or null, got 'abc'"),
    (
        "callbacks.progress.every_seconds=soon",
        "callbacks.progress.every_seconds must be a number, got 'soon'",
    ),
    ("logger.wandb.project=1 logger=wandb", "logger.wandb.project must be text, got 1"),
    ("+backbone.depth=3", "backbone must have options of width, levels, stride"),
    ("+trainer.epochs=3", "trainer must have options of accelerator, devices, max_epochs"),
    (
        "backbone._target_=rpe.network.backbone.VNet",
        "backbone._target_ must be importable, got rpe.network.backbone.VNet",
    ),
    ("~loss._target_", "loss must have a _target_"),
    ("seed=abc", "seed must be an integer >= 0, got abc."),
    ("seed=-1", "seed must be an integer >= 0, got -1."),
]
"""Refused before anything is written."""

BY_RANGE = [
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be >= 1, got 0."),
    ("trainer.max_epochs=-1", "trainer.max_epochs must be >= 0, got -1."),
    ("trainer.max_epochs=null", "trainer.max_epochs must be an integer >= 0, got null."),
    ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must be >= 0, got -1."),
    ("trainer.gradient_clip_algorithm=abc", "trainer: `gradient_clip_algorithm` abc is invalid"),
    ("trainer.devices=0", "trainer: `Trainer(devices=0)` value is not a valid input"),
    ("trainer.devices=abc", "trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
    (
        "trainer.accelerator=abc",
        "trainer: You selected an invalid accelerator name: `accelerator='abc'`. Available names are: auto",
    ),
    (
        "trainer.limit_val_batches=1.5",
        "trainer: You have passed invalid value 1.5 for limit_val_batches, it has to be in [0.0, 1.0] or an int",
    ),
    (
        "trainer.limit_test_batches=0",
        "trainer.limit_test_batches must be a number of batches or 1.0 (all), got 0.",
    ),
    (
        "logger.wandb.mode=nowhere logger=wandb",
        "logger.wandb.mode must be offline, online or disabled, got 'nowhere'.",
    ),
    ("callbacks.pictures.images=-1", "callbacks.pictures.images must be an integer >= 0, got -1"),
    ("data.train_scenes=-8", "data.train_scenes must be >= 1, got -8"),
    ("data.val_scenes=0", "data.val_scenes must be >= 1, got 0"),
    ("data.test_scenes=0", "data.test_scenes must be >= 1, got 0"),
    ("data.num_workers=-1", "data.num_workers must be >= 0, got -1"),
    ("data.crop=0 data=coco", "data.crop must be >= 1 in pixels, got 0"),
    ("data.longest_side=0 data=coco", "data.longest_side must be >= 1 in pixels, got 0"),
    ("optimizer.lr=-1", "optimizer.lr must be finite and >= 0, got -1."),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay must be finite and >= 0, got -1."),
    ("schedule.warmup=1", "schedule.warmup must be in [0, 1), got 1"),
    ("schedule.start=-1", "schedule.start must be in [0, 1], got -1"),
    ("schedule.power=-1 schedule=poly", "schedule.power must be >= 0, got -1"),
    ("proposal.views=4", "proposal.views must be 1, 2 or 8, got 4."),
    ("proposal.max_proposals=-1", "proposal.max_proposals must be >= 1, got -1."),
    ("proposal.max_keys=0", "proposal.max_keys must be >= 1, got 0."),
    ("proposal.min_area=-1", "proposal.min_area must be >= 0, got -1."),
    ("proposal.nms_iou=2", "proposal.nms_iou must be in [0, 1], got 2."),
    ("loss.pairwise.num_pixels=1", "loss.pairwise.num_pixels must be >= 2 to make a pair, got 1"),
    ("loss.objectness_weight=-1", "loss.objectness_weight must be finite and >= 0, got -1"),
    ("~schedule.warmup", "schedule.warmup must have a value, got none"),
    ("~loss.pairwise.num_pixels", "loss.pairwise.num_pixels must have a value, got none"),
]
"""Refused before the network is built or a file of the data is read."""

WHILE_BUILDING = [
    ("grouping.iterations=-1", "iterations must be an integer >= 0, got -1"),
    ("backbone.width=0", "backbone.width must be an integer >= 1, got 0"),
    ("backbone.levels=-1", "backbone.levels must be an integer >= 0, got -1"),
    ("backbone.width=0 backbone=timm", "backbone.width must be an integer >= 1, got 0"),
    ("embedding.dimension=0", "embedding.dimension must be >= 2, got 0"),
    ("embedding.hidden=0", "embedding.hidden and embedding.periods must be > 0, got 0"),
    ("head.hidden=0", "head.hidden must be >= 1, got 0"),
]
"""Refused by the parts of the network, before a file of the data is read."""

BY_HYDRA = [
    ("data=null", "data must be one of bsds, coco, digits, dsb2018, folder, nuclei, voc, got null"),
    (
        "backbone.widht=8",
        "Could not override 'backbone.widht'. Key 'widht' is not in struct. Did you mean width?",
    ),
    ("margin=0.3", "Key 'margin' is not in struct. Did you mean grouping.margin or loss.pairwise.margin?"),
    ("task=boundary experiment=null", "Add experiment=bsds"),
    (
        "experiment=null loss.pairwise.margin=0.3",
        "experiment or data must be given, got neither. Add experiment=bsds or experiment=bsds_scratch",
    ),
    ("~loss.pairwise.margin", "Interpolation key 'loss.pairwise.margin' not found"),
    ("debug=quik", "debug must be one of quick, got quik. Did you mean quick?"),
    ("precision=half", "precision must be one of bf16, double, fp16, full, got half"),
]


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def forbid(*what: tuple[object, str]) -> None:
        def built(*_: object, **__: object) -> None:
            raise AssertionError("was built in spite of the error")

        for where, name in what:
            monkeypatch.setattr(where, name, built)

    return forbid


@pytest.mark.parametrize(("arguments", "message"), [*BY_TYPE, *BY_HYDRA])
def test_errors_that_need_nothing_built(
    arguments: str, message: str, refused: Refused, nothing_built, tmp_path: Path
) -> None:
    nothing_built((building, "instantiate"))
    line = refused(
        train.main, "experiment=digits", *arguments.split(" "), f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert message in line and "provider=" not in line, line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "message"), BY_RANGE)
def test_errors_that_parts_refuse(
    arguments: str, message: str, refused: Refused, nothing_built, tmp_path: Path
) -> None:
    nothing_built((SplitData, "dataset"))
    line = refused(
        train.main,
        "experiment=digits",
        "trainer.accelerator=cpu",
        *arguments.split(" "),
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert message in line, line


@pytest.mark.parametrize(("arguments", "message"), WHILE_BUILDING)
def test_errors_that_the_network_refuses(
    arguments: str, message: str, refused: Refused, nothing_built, tmp_path: Path
) -> None:
    nothing_built((SplitData, "dataset"))
    line = refused(
        train.main, "experiment=digits", *arguments.split(" "), f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert message in line, line


def test_run_folders_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'file'}")
    assert f"{tmp_path / 'file'} must be writable, got File exists. Name another folder" in line
    line = refused(train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'file' / 'below'}")
    assert "must be writable, got Not a directory. Name another folder" in line


def test_a_folder_without_permission(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(file: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("rpe.run.train.write_whole", denied)
    assert "config.yaml must be writable, got Permission denied. Name another folder" in refused(
        train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'run'}"
    )


def test_garbage_weights(refused: Refused, tmp_path: Path) -> None:
    out = f"hydra.run.dir={tmp_path / 'run'}"
    for name, content in (("text", b"no weights"), ("empty", b""), ("zip", b"PK\x03\x04rest")):
        (tmp_path / name).write_bytes(content)
        assert f"by torch.save, got {tmp_path / name}" in refused(
            train.main,
            "experiment=digits",
            "backbone=timm",
            "backbone.model=resnet18",
            f"backbone.weights={tmp_path / name}",
            out,
        )
        assert f"checkpoint must be one that train.py wrote, got {tmp_path / name}" in refused(
            train.main,
            "experiment=digits",
            f"init_from={tmp_path / name}",
            f"hydra.run.dir={tmp_path / name}-run",
        )
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert f"checkpoint must be one that train.py wrote, got {tmp_path / 'list.ckpt'}" in refused(
        train.main,
        "experiment=digits",
        f"init_from={tmp_path / 'list.ckpt'}",
        f"hydra.run.dir={tmp_path / 'list'}",
    )


def test_an_evaluation_set_without_objects(
    refused: Refused, tmp_path: Path, coco_folder: Path, nothing_built
) -> None:
    nothing_built((building.lightning.Trainer, "fit"))
    file = coco_folder / "annotations" / "instances_val2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"] = [annotation | {"iscrowd": 1} for annotation in truth["annotations"]]
    file.write_text(json.dumps(truth))
    coco = ["data=coco", f"data.root={coco_folder}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert "instances_val2017.json must hold an object, got none but crowds" in refused(train.main, *coco)
    (tmp_path / "none.json").write_text("[]")
    assert "must hold an object, got none but crowds" in refused(
        evaluate.main, f"predictions={tmp_path / 'none.json'}", *coco
    )


def test_results_with_garbage_run_lengths(refused: Refused, tmp_path: Path) -> None:
    counts = "".join(np.random.default_rng(0).choice(list("abcXYZ019"), 40))
    row = {
        "image_id": 1,
        "category_id": 1,
        "score": 0.5,
        "segmentation": {"size": [64, 64], "counts": counts},
    }
    (tmp_path / "results.json").write_text(json.dumps([row]))
    line = refused(
        evaluate.main,
        f"predictions={tmp_path / 'results.json'}",
        "data=digits",
        "data.val_scenes=2",
        f"hydra.run.dir={tmp_path / 'out'}",
    )
    assert "segmentation.counts of result 0 (image 1) must be" in line
    (tmp_path / "dict.json").write_text("{}")
    assert "must be a list of COCO results, got" in refused(
        evaluate.main,
        f"predictions={tmp_path / 'dict.json'}",
        "data=digits",
        f"hydra.run.dir={tmp_path / 'out'}",
    )
