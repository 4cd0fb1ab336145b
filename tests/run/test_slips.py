"""Every slip of a user: one line that names the thing and the remedy, exit status 1, before the network or the data are built where that is possible."""

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
    ("optimizer.lr=abc", "optimizer.lr must be a number, not 'abc'"),
    ("optimizer.lr=null", "optimizer.lr must be a number, not null"),
    ("optimizer.lr=nan", "optimizer.lr must be a number, not nan"),
    ("optimizer.weight_decay=abc", "optimizer.weight_decay must be a number, not 'abc'"),
    ("grouping.iterations=1.5", "grouping.iterations must be a whole number, not 1.5"),
    ("grouping.iterations=abc", "grouping.iterations must be a whole number, not 'abc'"),
    ("grouping.bandwidth=abc", "grouping.bandwidth must be a number or null, not 'abc'"),
    ("schedule.warmup=abc", "schedule.warmup must be a number, not 'abc'"),
    ("trainer.max_epochs=abc", "trainer.max_epochs must be a whole number or null, not 'abc'"),
    ("trainer.precision=abc", "trainer.precision must be 64 or 32 or 16 or 'transformer-engine'"),
    (
        "trainer.accumulate_grad_batches=2.5",
        "trainer.accumulate_grad_batches must be a whole number, not 2.5",
    ),
    (
        "trainer.deterministic=perhaps",
        "trainer.deterministic must be true or false or 'warn' or null, not 'perhaps'",
    ),
    ("backbone.width=abc", "backbone.width must be a whole number, not 'abc'"),
    ("backbone.width=", "backbone.width must be a whole number, not ''"),
    ("backbone.width=true", "backbone.width must be a whole number, not true"),
    ("embedding.dimension=1.5", "embedding.dimension must be a whole number, not 1.5"),
    ("embedding.dimension=abc", "embedding.dimension must be a whole number, not 'abc'"),
    ("data.crop=null data=coco", "data.crop must be a whole number, not null"),
    (
        "data.train_categories=person data=coco",
        "data.train_categories must be a list of names or null, not 'person': write [person]",
    ),
    ("data.train_scenes=many", "data.train_scenes must be a whole number, not 'many'"),
    ("proposal.bandwidths=0.3", "proposal.bandwidths must be a list of numbers, not 0.3: write [0.3]"),
    ("proposal.bandwidths=[a]", "proposal.bandwidths must be a list of numbers, not ['a']"),
    ("loss.margin=abc", "loss.margin must be a number, not 'abc'"),
    ("loss.num_pixels=abc", "loss.num_pixels must be a whole number or null, not 'abc'"),
    (
        "callbacks.progress.every_seconds=soon",
        "callbacks.progress.every_seconds must be a number, not 'soon'",
    ),
    ("logger.wandb.project=1 logger=wandb", "logger.wandb.project must be text, not 1"),
    ("+backbone.depth=3", "backbone.depth is no option of backbone: it has width, levels, stride"),
    ("+trainer.epochs=3", "trainer.epochs is no option of trainer: it has accelerator, devices, max_epochs"),
    (
        "backbone._target_=rpe.network.backbone.VNet",
        "backbone._target_ rpe.network.backbone.VNet cannot be imported",
    ),
    ("~loss._target_", "loss has no _target_"),
    ("seed=abc", "seed abc is no whole number from 0 on"),
    ("seed=-1", "seed -1 is no whole number from 0 on"),
]
"""Refused before anything is written."""

BY_RANGE = [
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches 0 is below 1"),
    ("trainer.max_epochs=-1", "trainer.max_epochs -1 is below 0"),
    ("trainer.max_epochs=null", "trainer.max_epochs is null: name how many epochs"),
    ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val -1 is below 0"),
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
    ("trainer.limit_test_batches=0", "trainer.limit_test_batches 0 tests nothing"),
    (
        "logger.wandb.mode=nowhere logger=wandb",
        "logger.wandb.mode 'nowhere' is unknown: choose offline, online, disabled",
    ),
    ("callbacks.pictures.images=-1", "callbacks.pictures.images -1 is negative"),
    ("data.train_scenes=-8", "data.train_scenes -8 is below 1"),
    ("data.val_scenes=0", "data.val_scenes 0 is below 1"),
    ("data.test_scenes=0", "data.test_scenes 0 is below 1"),
    ("data.num_workers=-1", "data.num_workers -1 is below 0"),
    ("data.crop=0 data=coco", "data.crop 0 is below 1"),
    ("data.longest_side=0 data=coco", "data.longest_side 0 is below 1"),
    ("optimizer.lr=-1", "optimizer.lr must be finite and >= 0, got -1."),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay must be finite and >= 0, got -1."),
    ("schedule.warmup=1", "schedule.warmup 1 is outside [0, 1)"),
    ("schedule.start=-1", "schedule.start -1 is outside [0, 1]"),
    ("schedule.power=-1 schedule=poly", "schedule.power -1 is negative"),
    ("proposal.max_proposals=-1", "proposal.max_proposals -1 is below 1"),
    ("proposal.max_keys=0", "proposal.max_keys 0 is below 1"),
    ("proposal.min_area=-1", "proposal.min_area -1 is below 0"),
    ("proposal.nms_iou=2", "proposal.nms_iou 2 is outside [0, 1]"),
    ("loss.num_pixels=1", "loss.num_pixels 1 makes no pair"),
    ("loss.objectness_weight=-1", "loss.objectness_weight -1 is negative"),
    ("~schedule.warmup", "schedule.warmup is missing"),
    ("~loss.num_pixels", "loss.num_pixels is missing"),
]
"""Refused before the network is built or a file of the data is read."""

WHILE_BUILDING = [
    ("grouping.iterations=-1", "iterations -1 is not a whole number from 0 on"),
    ("backbone.width=0", "backbone.width 0 is no whole number of at least 1"),
    ("backbone.levels=-1", "backbone.levels -1 is no whole number of at least 0"),
    ("backbone.width=0 backbone=timm", "backbone.width 0 is no whole number of at least 1"),
    ("embedding.dimension=0", "embedding.dimension 0 leaves no room"),
    ("embedding.hidden=0", "embedding.hidden 0"),
    ("head.hidden=0", "head.hidden 0 is below 1"),
]
"""Refused by the parts of the network, before a file of the data is read."""

BY_HYDRA = [
    ("data=null", "data must be one of bsds, coco, digits, folder, nuclei, voc, got null"),
    (
        "backbone.widht=8",
        "Could not override 'backbone.widht'. Key 'widht' is not in struct. Did you mean width?",
    ),
    ("margin=0.3", "Key 'margin' is not in struct. Did you mean grouping.margin or loss.margin?"),
    ("task=boundary experiment=null", "Add experiment=bsds"),
    (
        "experiment=null loss.margin=0.3",
        "experiment or data must be given, got neither. Add experiment=bsds or experiment=coco",
    ),
    ("~loss.margin", "Interpolation key 'loss.margin' not found"),
    ("debug=quik", "debug must be one of quick, got quik. Did you mean quick?"),
    ("precision=half", "precision must be one of bf16, double, fp16, full, got half"),
]


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def forbid(*what: tuple[object, str]) -> None:
        def built(*_: object, **__: object) -> None:
            raise AssertionError("was built in spite of the slip")

        for where, name in what:
            monkeypatch.setattr(where, name, built)

    return forbid


@pytest.mark.parametrize(("arguments", "message"), [*BY_TYPE, *BY_HYDRA])
def test_slips_that_need_nothing_built(
    arguments: str, message: str, refused: Refused, nothing_built, tmp_path: Path
) -> None:
    nothing_built((building, "instantiate"))
    line = refused(
        train.main, "experiment=digits", *arguments.split(" "), f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert message in line and "provider=" not in line, line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "message"), BY_RANGE)
def test_slips_that_parts_refuse(
    arguments: str, message: str, refused: Refused, nothing_built, tmp_path: Path
) -> None:
    nothing_built((building, "build_model"), (SplitData, "dataset"))
    line = refused(
        train.main,
        "experiment=digits",
        "trainer.accelerator=cpu",
        *arguments.split(" "),
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert message in line, line


@pytest.mark.parametrize(("arguments", "message"), WHILE_BUILDING)
def test_slips_that_the_network_refuses(
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
    assert f"{tmp_path / 'file'}: File exists: name a folder that can be written" in line
    line = refused(train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'file' / 'below'}")
    assert "Not a directory: name a folder that can be written" in line


def test_a_folder_without_permission(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(file: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("rpe.run.train.write_whole", denied)
    assert "config.yaml: Permission denied: name a folder" in refused(
        train.main, "experiment=digits", f"hydra.run.dir={tmp_path / 'run'}"
    )


def test_garbage_weights(refused: Refused, tmp_path: Path) -> None:
    out = f"hydra.run.dir={tmp_path / 'run'}"
    for name, content in (("text", b"no weights"), ("empty", b""), ("zip", b"PK\x03\x04rest")):
        (tmp_path / name).write_bytes(content)
        assert f"{name} is no state dict" in refused(
            train.main,
            "experiment=digits",
            "backbone=timm",
            "backbone.model=resnet18",
            f"backbone.weights={tmp_path / name}",
            out,
        )
        assert f"{name} is not a checkpoint of this program" in refused(
            train.main,
            "experiment=digits",
            f"init_from={tmp_path / name}",
            f"hydra.run.dir={tmp_path / name}-run",
        )
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "list.ckpt is not a checkpoint" in refused(
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
    assert "instances_val2017.json holds no object, at most crowds" in refused(train.main, *coco)
    (tmp_path / "none.json").write_text("[]")
    assert "holds no object, at most crowds" in refused(
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
    assert "result 0 (image 1) has a broken mask" in line
    (tmp_path / "dict.json").write_text("{}")
    assert "is not a JSON list" in refused(
        evaluate.main,
        f"predictions={tmp_path / 'dict.json'}",
        "data=digits",
        f"hydra.run.dir={tmp_path / 'out'}",
    )
