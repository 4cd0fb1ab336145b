"""The commands as a user runs them: their files, their errors, and that an interrupted run ends as any other."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny import tiny

import evaluate
import rpe.run
import train
from benchmarks import proposal_baselines
from rpe.metric import average_recall
from rpe.metric.reference import reference_table
from rpe.rle import compress

ROOT = Path(__file__).parent.parent
TINY = tiny(4, 3, 3)
CommandLine = Callable[..., None]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny run of two epochs, made through the command line."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *TINY, "trainer.max_epochs=2", f"hydra.run.dir={folder}"])
        rpe.run.run_command(train.main)
    return folder


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def test_a_run_folder_holds_what_it_should(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "checkpoints",
        "metrics.csv",
        "metrics.json",
        "pictures",
        "train.log",
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    written = json.loads((run / "metrics.json").read_text())
    assert {
        "AR@1",
        "AR@10",
        "AR@100",
        "AR@1000",
        "AR@100-small",
        "ARI-X0",
        "ARI-modes",
        "margin_violations/X0",
        "margin_violations/X1",
    } <= written["metrics"].keys()
    assert {"commit", "config", "data", "split", "hardware", "versions", "seconds"} == written["run"].keys()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (
        config["backbone"]["width"] == 8
        and config["grouping"]["margin"] == config["loss"]["pairwise"]["margin"]
        and "hydra" not in config
    )
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert written["monitored"] == pytest.approx(max(float(row["val/AR@100"]) for row in rows)), (
        "what sweepers maximize"
    )
    log = (run / "train.log").read_text()
    assert "epoch 1/2  loss " in log and "epoch 2/2  loss " in log and "AR@10" in log and "\x1b" not in log
    assert (
        len(rows) == 2
        and {"train/pairwise_0", "train/pairwise_1", "train/objectness", "val/AR@10", "val/ARI-X0"}
        <= rows[0].keys()
    )


def test_checkpoints_hold_plain_data(run: Path) -> None:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 1 and state["global_step"] == 4


def test_evaluate_a_run_equals_pycocotools_by_hand(
    run: Path, command_line: CommandLine, coco_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line(
        evaluate.main,
        f"run={run}",
        "data=coco",
        f"data.root={coco_folder}",
        "proposal.foreground_thresholds=[0.01]",
        "proposal.min_area=1",
    )
    folder = run / "evaluation" / "coco-val"
    assert {path.name for path in folder.iterdir()} == {
        "evaluate.log",
        "metrics.json",
        "proposals.json",
        "images.csv",
        "reliability.csv",
        "pictures",
    }
    assert "AR@10" in (folder / "evaluate.log").read_text()
    truth = COCO(str(coco_folder / "annotations" / "instances_val2017.json"))
    rows = json.loads((folder / "proposals.json").read_text())
    assert (
        rows
        and {row["category_id"] for row in rows} == {1}
        and isinstance(rows[0]["segmentation"]["counts"], str)
    )
    by_hand = COCOeval(truth, truth.loadRes(str(folder / "proposals.json")), "segm")
    by_hand.params.useCats, by_hand.params.maxDets = 0, [1, 10, 1000]
    by_hand.evaluate()
    by_hand.accumulate()
    recall = by_hand.eval["recall"][:, 0, 0]
    for index, limit in enumerate([1, 10, 1000]):
        assert figures(folder)[f"AR@{limit}"] == pytest.approx(recall[:, index].mean(), abs=1e-6)


def test_evaluate_takes_data_and_proposal_from_the_run(run: Path, command_line: CommandLine) -> None:
    command_line(evaluate.main, f"run={run}", "data.val_scenes=2", "proposal.max_proposals=1")
    assert figures(run / "evaluation" / "digits-val")["images"] == 2
    assert figures(run / "evaluation" / "digits-val")["masks-per-image"] <= 1


def test_evaluate_anybodys_results(command_line: CommandLine, coco_folder: Path, tmp_path: Path) -> None:
    truth = json.loads((coco_folder / "annotations" / "instances_val2017.json").read_text())

    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    rows = []
    for a in truth["annotations"]:
        mask = compress(a["segmentation"], sizes[a["image_id"]])
        counts = mask["counts"] if isinstance(mask["counts"], str) else mask["counts"].decode()
        segmentation = {"size": list(mask["size"]), "counts": counts}
        rows.append(
            {
                "image_id": a["image_id"],
                "category_id": 1,
                "segmentation": segmentation,
                "score": 0.5 + 1 / (10 + a["area"]),
            }
        )
    (tmp_path / "results.json").write_text(json.dumps(rows))
    command_line(
        evaluate.main,
        f"predictions={tmp_path / 'results.json'}",
        "data=coco",
        f"data.root={coco_folder}",
        f"hydra.run.dir={tmp_path / 'out'}",
    )
    found = figures(tmp_path / "out")
    assert (
        found["AR@1000"]
        == found["AP50"]
        == found["AP90-pooled"]
        == found["PQ"]
        == found["recall50-touching"]
        == 1.0
    )
    assert found["images"] == 4 and found["masks-per-image"] == len(rows) / 4
    shutil.rmtree(coco_folder / "val2017")  # the annotations are enough
    named = [
        f"predictions={tmp_path / 'results.json'}",
        "data=coco",
        f"data.root={coco_folder}",
        f"hydra.run.dir={tmp_path / 'none'}",
    ]
    command_line(evaluate.main, *named, "score_threshold=0.6")
    assert figures(tmp_path / "none")["AP50"] == 0 and figures(tmp_path / "none")["AR@1000"] == 1, (
        "no mask scores so much"
    )
    assert {path.name for path in (tmp_path / "out" / "pictures").iterdir()} == {
        "recall-AR.png",
        "recall-AR_voc.png",
        "reliability.png",
    }


@pytest.mark.parametrize("backend", ["own", "pycocotools", "faster"])
def test_the_backend_that_is_asked_for_computes_the_figures(
    backend: str,
    run: Path,
    command_line: CommandLine,
    coco_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        average_recall, "reference_table", lambda *given: asked.append(given[-1]) or reference_table(*given)
    )
    (tmp_path / "results.json").write_text(json.dumps([]))
    out = ["data=coco", f"data.root={coco_folder}", f"backend={backend}", f"hydra.run.dir={tmp_path / 'out'}"]
    command_line(evaluate.main, f"predictions={tmp_path / 'results.json'}", *out)
    command_line(
        evaluate.main, f"run={run}", *out, "proposal.foreground_thresholds=[0.01]", "proposal.min_area=1"
    )
    assert asked == ([] if backend == "own" else [backend] * 2) and figures(tmp_path / "out")["images"] == 4


def test_the_table_of_baselines_tells_how_far_it_is(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proposal_baselines, "EVERY", -1.0)
    monkeypatch.setattr(sys, "argv", ["proposal_baselines.py", f"run={run}"])
    proposal_baselines.main()
    told = capsys.readouterr()
    rows = [line.split("|")[1].strip() for line in told.out.splitlines() if line.startswith("|")]
    assert (
        rows[:3] == ["method", "---", "this run"]
        and rows[-1] == "the untrained network"
        and len(rows) == 2 + 5 + 1 + 3
    )
    for line in (
        "this run: 1 of 1 batches",
        "multi-scale Felzenszwalb: 2 of 3 images",
        "bandwidth 0.3: 2 of 3 images",
    ):
        assert line in told.err


def test_multirun_makes_a_folder_a_point(command_line: CommandLine, tmp_path: Path) -> None:
    swept = ["embedding.dimension=3,8", "loss.pairwise.margin=0.3,0.5"]
    command_line(
        train.main,
        "-m",
        *swept,
        *TINY,
        "trainer.max_epochs=1",
        "data.val_scenes=1",
        "data.test_scenes=1",
        f"hydra.sweep.dir={tmp_path}",
    )
    folders = sorted(path.parent for path in tmp_path.rglob("metrics.json"))
    assert len(folders) == 4
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    points = {
        (config["embedding"]["dimension"], config["loss"]["pairwise"]["margin"], config["grouping"]["margin"])
        for config in configs
    }
    command_line(evaluate.main, f"run={folders[0]}")
    assert (folders[0] / "evaluation" / "digits-val" / "metrics.json").is_file()
    assert points == {(3, 0.3, 0.3), (3, 0.5, 0.5), (8, 0.3, 0.3), (8, 0.5, 0.5)}


def test_init_starts_from_weights(run: Path, command_line: CommandLine, tmp_path: Path) -> None:
    command_line(
        train.main,
        *TINY,
        f"init_from={run}",
        "trainer.max_epochs=0",
        "grouping.iterations=4",
        "loss.pairwise.margin=0.3",
        f"hydra.run.dir={tmp_path / 'new'}",
    )
    before = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "new" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert figures(tmp_path / "new")["AR@10"] == figures(run)["AR@10"]


def test_resumed_in_process_equals_uninterrupted(command_line: CommandLine, tmp_path: Path) -> None:
    """To the last digit, in double precision, which a checkpoint must not round either."""
    double = [*TINY, "schedule=constant", "precision=double"]
    command_line(train.main, *double, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'one'}")
    command_line(train.main, f"resume={tmp_path / 'one'}", "trainer.max_epochs=2")
    command_line(train.main, *double, "trainer.max_epochs=2", f"hydra.run.dir={tmp_path / 'two'}")
    assert figures(tmp_path / "one") == figures(tmp_path / "two")
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    rows = list(csv.DictReader((tmp_path / "one" / "metrics.csv").open()))
    assert [float(row["epoch"]) for row in rows] == [0, 1]


@pytest.mark.slow
def test_killed_and_resumed_from_another_folder_ends_as_uninterrupted(tmp_path: Path) -> None:
    tiny = [*TINY, "trainer.max_epochs=4", "data.train_scenes=40"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, env=environment
        )

    assert start(ROOT, *tiny, f"hydra.run.dir={tmp_path / 'whole'}").wait() == 0
    killed = start(ROOT, *tiny, f"hydra.run.dir={tmp_path / 'killed'}")
    table = tmp_path / "killed" / "metrics.csv"
    while killed.poll() is None and not (table.exists() and table.read_text().count("\n") >= 3):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists(), "it was killed before its end"
    (tmp_path / "elsewhere").mkdir()
    assert start(tmp_path / "elsewhere", "resume=../killed").wait() == 0
    assert figures(tmp_path / "killed") == pytest.approx(figures(tmp_path / "whole"), abs=1e-6)
    assert list((tmp_path / "elsewhere").iterdir()) == [], (
        "a resumed run writes into its own folder and no other"
    )


def refuse_train(refused: Refused, tmp_path: Path, *arguments: str) -> str:
    return refused(train.main, *TINY, f"hydra.run.dir={tmp_path / 'refused'}", *arguments)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("loss.pairwise.margin=1.0", "margin must be in [0, 1), got 1.0"),
        ("loss.pairwise.margin=-0.1", "margin must be in [0, 1), got -0.1"),
        ("grouping.bandwidth=0.01", "bandwidth must be in [0.02, 2.0], got 0.01"),
        ("grouping.bandwidth=2.5", "bandwidth must be in [0.02, 2.0], got 2.5"),
        ("proposal.bandwidths=[5.0]", "bandwidth must be in [0.02, 2.0], got 5.0"),
        ("loss.pairwise.marginn=0.3", "Key 'marginn' is not in struct. Did you mean margin?"),
        ("loss.marginn=0.3", "Key 'marginn' is not in struct. Did you mean loss.pairwise.margin?"),
        ("backbone=resnet", "backbone must be one of efficientnet_lite0, timm, unet"),
        ("experiment=imagenet", "experiment must be one of bsds, bsds_scratch, coco, digits"),
        ("loss.pairwise.weighting=pixel", "weighting must be group or uniform, got 'pixel'."),
        (
            "embedding.coordinates=polar",
            "embedding.coordinates must be none, periodic or displaced, got 'polar'",
        ),
        ("data.batch_size=20", "data.batch_size must be at most the images of"),
        ("init_from=nowhere", "checkpoint must exist, got nowhere"),
        ("resume=nowhere", "run folder must be one that train.py wrote, got nowhere, which does not exist"),
    ],
)
def test_slips_while_training(argument: str, message: str, refused: Refused, tmp_path: Path) -> None:
    line = (
        refuse_train(refused, tmp_path, argument)
        if not argument.startswith("resume")
        else refused(train.main, argument)
    )
    assert message in line, line


def test_missing_data_is_named_before_training(refused: Refused, tmp_path: Path, coco_folder: Path) -> None:
    coco = ["data=coco", "data.num_workers=0", f"hydra.run.dir={tmp_path / 'refused'}"]
    assert "nowhere. Set data.root" in refused(train.main, *coco, "data.root=nowhere")
    assert not (tmp_path / "refused").exists(), "nothing is left of a run that never began"
    (coco_folder / "annotations" / "instances_val2017.json").rename(tmp_path / "away.json")
    assert "instances_val.json must exist, got none" in refused(train.main, *coco, f"data.root={coco_folder}")


def test_an_image_that_fails_in_a_worker_is_still_one_line(
    refused: Refused, tmp_path: Path, coco_folder: Path
) -> None:
    file = coco_folder / "train2017" / "000000000002.png"
    file.write_bytes(file.read_bytes()[:200])
    coco = [
        "data=coco",
        f"data.root={coco_folder}",
        "data.crop=32",
        "data.batch_size=4",
        "data.num_workers=1",
        "backbone.width=8",
    ]
    assert "000000000002.png must decode" in refused(
        train.main, *coco, f"hydra.run.dir={tmp_path / 'refused'}"
    )


def test_checkpoint_of_another_model_and_no_checkpoint(run: Path, refused: Refused, tmp_path: Path) -> None:
    line = refuse_train(refused, tmp_path, f"init_from={run}", "embedding.dimension=5")
    assert ": model.embedding.layers.2.bias is [16], not [5]" in line
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert "checkpoint must be one that train.py wrote, got" in refuse_train(
        refused, tmp_path, f"init_from={tmp_path / 'text.ckpt'}"
    )


def test_resume_refuses_other_settings(run: Path, refused: Refused, tmp_path: Path) -> None:
    assert "got loss.pairwise.margin=0.2. Start a new run with init_from=" in refused(
        train.main, f"resume={run}", "loss.pairwise.margin=0.2"
    )
    assert "hydra.run.dir=" in refused(train.main, f"resume={run}", f"hydra.run.dir={tmp_path / 'other'}")
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    assert "resume must have a checkpoint, got " in refused(train.main, f"resume={tmp_path}")


def test_slips_while_evaluating(run: Path, refused: Refused, tmp_path: Path) -> None:
    out = f"hydra.run.dir={tmp_path / 'refused'}"
    assert "run or predictions must be given" in refused(evaluate.main, out)
    assert "run folder must be one that train.py wrote, got nowhere, which does not exist" in refused(
        evaluate.main, "run=nowhere"
    )
    assert f"got {tmp_path}, which holds no config.yaml" in refused(evaluate.main, f"run={tmp_path}")
    assert "split must be one of train, val, test, got 'tset'" in refused(
        evaluate.main, f"run={run}", "split=tset", out
    )
    assert "Add data=coco data.root=<folder>" in refused(evaluate.main, "predictions=results.json", out)
    assert "got nowhere.json, which does not exist" in refused(
        evaluate.main, "predictions=nowhere.json", "data=digits", "data.seed=0", out
    )
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json must be JSON, got a file that ends too early" in refused(
        evaluate.main, f"predictions={tmp_path / 'bad.json'}", "data=digits", "data.seed=0", out
    )
    assert "checkpoint must exist, got nothere.ckpt" in refused(
        evaluate.main, f"run={run}", "checkpoint=nothere.ckpt", out
    )


def test_a_folder_with_a_run_is_not_written_into(run: Path, refused: Refused) -> None:
    assert f"hydra.run.dir must be a new folder, got {run}, which holds a run. Add resume=" in refused(
        train.main, *TINY, f"hydra.run.dir={run}"
    )
