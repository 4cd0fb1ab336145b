"""Boundary training through the command line, on a miniature in BSDS500's layout."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bsds_miniature import write_bsds
from hydra import compose, initialize_config_dir
from PIL import Image

import evaluate
import rpe.run
import train
from rpe.data.bsds import Bsds
from rpe.metric.boundary import counts_from_table
from rpe.metric.boundary.score import Scored
from rpe.picture.curve import PUBLISHED
from rpe.task import boundary
from rpe.task.boundary import BoundaryResult, BoundaryTask

CONF = Path(__file__).parent.parent.parent / "conf"
SMALL = [
    "experiment=bsds_scratch",
    "data.crop=32",
    "data.num_workers=0",
    "data.batch_size=2",
    "backbone.width=8",
    "loss.pairwise.num_pixels=128",
]
CommandLine = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bsds(tmp_path / "bsds")


def make_task(root: Path, *overrides: str) -> tuple[BoundaryTask, Bsds]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*SMALL, f"data.root={root}", *overrides])
        torch.manual_seed(0)
        task, data = rpe.run.build_task(config), rpe.run.build_data(config)
    assert isinstance(task, BoundaryTask) and isinstance(data, Bsds)
    return task, data


@pytest.mark.parametrize(
    "change",
    [
        "loss.grouping_target=boundary",
        "loss.grouping_target=segments",
        "loss.pairwise.weight=0",
        "grouping.iterations=2",
    ],
)
def test_training_steps_lower_the_loss(root: Path, change: str) -> None:
    task, data = make_task(root, change, "optimizer.lr=0.01")
    batch = next(iter(data.loader("train", training=True)))
    optimizer = task.optimizer(task)
    task._trainer = type("Trainer", (), {"current_epoch": 0, "global_rank": 0})()  # type: ignore[assignment]
    losses = []
    for _ in range(12):
        loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_train_evaluate_and_score_the_maps_it_wrote(
    root: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command_line(
        train.main,
        *SMALL,
        f"data.root={root}",
        "trainer.max_epochs=2",
        "trainer.check_val_every_n_epoch=1",
        f"hydra.run.dir={run}",
    )
    figures = json.loads((run / "metrics.json").read_text())["metrics"]
    assert figures["images"] == 4 and 0 <= figures["ODS"] <= 1
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert {"val/ODS", "train/pairwise_0", "train/stages", "train/fused"} <= set(rows[0])
    pictures = sorted(file.name for file in (run / "pictures").iterdir())
    assert pictures == [
        "precision-recall.png",
        "val-2000.png",
        "val-2001.png",
        "val-2002.png",
        "val-2003.png",
    ]
    command_line(evaluate.main, f"run={run}", "split=test")
    again = run / "evaluation" / "bsds-test"
    assert json.loads((again / "metrics.json").read_text())["metrics"] == figures
    maps = sorted((again / "maps").iterdir())
    assert [file.name for file in maps] == ["3000.png", "3001.png", "3002.png", "3003.png"]
    assert np.asarray(Image.open(maps[1])).shape == (48, 64)
    maps_command = [
        "task=boundary",
        f"predictions={again / 'maps'}",
        "data=bsds",
        f"data.root={root}",
        "split=test",
    ]
    command_line(evaluate.main, *maps_command, f"hydra.run.dir={tmp_path / 'theirs'}")
    assert json.loads((tmp_path / "theirs" / "metrics.json").read_text())["metrics"] == figures
    assert (tmp_path / "theirs" / "thresholds.csv").read_text() == (again / "thresholds.csv").read_text()
    command_line(evaluate.main, *maps_command, "names=[3001]", f"hydra.run.dir={tmp_path / 'one'}")
    assert json.loads((tmp_path / "one" / "metrics.json").read_text())["metrics"]["images"] == 1
    command_line(evaluate.main, *maps_command, "thresholds=5", f"hydra.run.dir={tmp_path / 'five'}")
    rows = list(csv.DictReader((tmp_path / "five" / "thresholds.csv").open()))
    assert [float(row["threshold"]) for row in rows] == pytest.approx(
        [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6], abs=1e-6
    )
    command_line(
        evaluate.main,
        f"run={run}",
        "split=val",
        "detection.scales=[0.5,1]",
        f"hydra.run.dir={tmp_path / 'scales'}",
    )
    assert (tmp_path / "scales" / "maps" / "2000.png").is_file()


def test_each_job_warns_of_its_own_input(
    root: Path, command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "maps").mkdir()
    for picture in (root / "images" / "test").glob("*.jpg"):
        size = Image.open(picture).size
        Image.new("L", size).save(tmp_path / "maps" / f"{picture.stem}.png")
    command_line(
        evaluate.main,
        "-m",
        "task=boundary",
        f"predictions={tmp_path / 'maps'}",
        "data=bsds",
        f"data.root={root}",
        "split=test",
        "thresholds=5,9",
        f"hydra.sweep.dir={tmp_path / 'jobs'}",
    )
    assert capsys.readouterr().err.count("boundary maps are empty") == 2


def test_mistakes_are_refused(root: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "task.val_thresholds must be >= 2, got 1" in refused(
        train.main, *SMALL, f"data.root={root}", "task.val_thresholds=1"
    )
    assert "data must be Bsds for rpe.task.boundary.BoundaryTask, got digits (Digits)" in refused(
        train.main, "experiment=digits", "task=boundary", "loss=boundary", "head=boundary", "detection=single"
    )
    assert "loss must be BoundaryLoss for rpe.task.boundary.BoundaryTask, got InstanceLoss" in refused(
        train.main, *SMALL, f"data.root={root}", "loss=instance"
    )
    assert "for rpe.task.instance.InstanceTask, got BoundaryClassifier" in refused(
        train.main, "experiment=digits", "head=boundary"
    )
    needs = refused(
        train.main, "task=boundary", "loss=boundary", "data=bsds", f"data.root={root}", "experiment=coco"
    )
    assert "data must have options of name, root" in needs
    assert "detection.scales must be one or more numbers > 0, got [0]" in refused(
        train.main, *SMALL, f"data.root={root}", "detection.scales=[0]"
    )
    (tmp_path / "maps").mkdir()
    missing = refused(
        evaluate.main,
        "task=boundary",
        f"predictions={tmp_path / 'maps'}",
        "data=bsds",
        f"data.root={root}",
        "split=test",
    )
    assert "3000.png (or .npy, .mat) must exist" in missing
    unknown = refused(
        evaluate.main,
        "task=boundary",
        f"predictions={tmp_path / 'maps'}",
        "data=bsds",
        f"data.root={root}",
        "names=[5]",
    )
    assert "got '5'" in unknown


def test_any_timm_backbone(root: Path) -> None:
    task, data = make_task(root, "backbone=timm", "backbone.model=resnet10t")
    batch = next(iter(data.loader("test", training=False)))
    task.eval()
    with torch.no_grad():
        task.evaluate_batch(batch)
    assert list(task.maps) == ["3000"] and task.maps["3000"].shape == (64, 48)


def test_a_diverged_training_ends_with_the_epoch(
    root: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    line = refused(
        train.main,
        *SMALL,
        f"data.root={root}",
        "loss.pairwise.weight=0",
        "optimizer.lr=1e30",
        "clipping=none",
        "trainer.max_epochs=3",
        f"hydra.run.dir={run}",
    )
    assert "the loss must stay finite, got nan in epoch" in line and "Lower optimizer.lr" in line
    assert not (run / "checkpoints" / "best.ckpt").exists()


def test_images_of_two_sizes_in_one_batch_have_the_maps_of_images_alone(root: Path) -> None:
    maps = []
    for images in (1, 2):
        task, data = make_task(root, f"data.eval_batch_size={images}")
        task.eval()
        with torch.no_grad():
            for batch in data.loader("val", training=False):
                task.evaluate_batch(batch)
        maps.append(task.maps)
    alone, beside = maps
    assert {values.shape for values in alone.values()} == {(48, 64), (64, 48)}
    for name, values in alone.items():
        np.testing.assert_array_equal(beside[name], values)


@pytest.mark.parametrize(
    ("split", "thresholds", "thinning", "published"),
    [
        ("test", 99, True, PUBLISHED),
        ("test", 99, False, {}),
        ("test", 9, True, {}),
        ("val", 99, True, {}),
    ],
)
def test_published_results_stand_beside_the_official_protocol_alone(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    thresholds: int,
    thinning: bool,
    published: dict,
) -> None:
    names = [str(number) for number in range(200)]
    scored = Scored(names, counts_from_table(np.ones((200, thresholds, 4), dtype=np.int64)))
    drawn: list[object] = []
    monkeypatch.setattr(boundary, "draw_curve", lambda *given: drawn.append(given[2]))
    _, data = make_task(root)
    BoundaryResult(scored.metrics, scored, {}, thinning).draw(tmp_path, data, split)
    assert drawn == [published]
