"""Going on with a run that was moved, lengthened, or logged to wandb; half precision where it belongs."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny
from wandb_files import wandb_files

import evaluate
import train
from rpe.callbacks.checkpoint import WholeCheckpoints
from rpe.loss import InstanceLoss
from rpe.network.backbone.decoder import ConvolutionBlock
from rpe.structures import Batch
from rpe.task.instance import InstanceTask

CommandLine = Callable[..., None]
TINY = tiny(4, 2, 1)


def epochs_of(folder: Path) -> int:
    return len(list(csv.DictReader((folder / "metrics.csv").open())))


def test_a_moved_run_keeps_its_best_score(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch is made the best there can be: what was saved then stays the best after moving and resuming."""
    figure = {"AR@100": 1.0}
    compute_metrics = InstanceTask.compute_metrics

    def fixed(task: InstanceTask, truth: dict) -> None:
        compute_metrics(task, truth)
        task.result.metrics |= figure

    monkeypatch.setattr(InstanceTask, "compute_metrics", fixed)
    command_line(
        train.main, *TINY, "trainer.max_epochs=1", "schedule=constant", f"hydra.run.dir={tmp_path / 'a'}"
    )
    best = torch.load(tmp_path / "a" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    (tmp_path / "a").rename(tmp_path / "b = moved")
    figure["AR@100"] = 0.5
    command_line(train.main, f"resume={tmp_path / 'b = moved'}", "trainer.max_epochs=2")
    again = torch.load(tmp_path / "b = moved" / "checkpoints" / "best.ckpt", weights_only=True)
    assert again["epoch"] == 0 and all(torch.equal(best[name], again["state_dict"][name]) for name in best)
    assert not (tmp_path / "a").exists() and epochs_of(tmp_path / "b = moved") == 2
    figure["AR@100"] = 2.0
    command_line(train.main, f"resume={tmp_path / 'b = moved'}", "trainer.max_epochs=3")
    assert torch.load(tmp_path / "b = moved" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 2


def test_more_epochs_are_remembered_by_the_next_resume(
    command_line: CommandLine, refused: Callable[..., str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command_line(train.main, *TINY, "trainer.max_epochs=1", f"hydra.run.dir={run}")
    written = (run / "config.yaml").read_text()
    command_line(train.main, f"resume={run}", "trainer.max_epochs=2")
    assert "trainer.max_epochs must be >= 2, got 1" in refused(
        train.main, f"resume={run}", "trainer.max_epochs=1"
    )
    (run / "metrics.json").unlink()
    command_line(train.main, f"resume={run}")
    assert (run / "metrics.json").exists() and epochs_of(run) == 2
    assert (
        yaml.safe_load((run / "resumed.yaml").read_text()) == {"trainer.max_epochs": 2}
        and (run / "config.yaml").read_text() == written
    )
    (run / "checkpoints" / "last.ckpt").write_bytes(b"garbage")
    assert "checkpoint must be one that train.py wrote" in refused(
        train.main, f"resume={run}", "trainer.max_epochs=5"
    )
    assert yaml.safe_load((run / "resumed.yaml").read_text()) == {"trainer.max_epochs": 2}, (
        "a slip is not remembered"
    )


def test_a_run_that_ends_with_its_checkpoint_keeps_the_row_of_its_epoch(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning logs an epoch's means after its checkpoint: what is killed in between resumes after the epoch, and never logs them."""
    settings = [*TINY, "trainer.max_epochs=2", "callbacks.pictures=null"]
    command_line(train.main, *settings, f"hydra.run.dir={tmp_path / 'whole'}")
    save = WholeCheckpoints.save_checkpoint

    def killed(io: WholeCheckpoints, checkpoint: dict, path: str, storage_options: object = None) -> None:
        save(io, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(WholeCheckpoints, "save_checkpoint", killed)
        command_line(train.main, *settings, f"hydra.run.dir={tmp_path / 'killed'}")
    command_line(train.main, f"resume={tmp_path / 'killed'}")
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (
        tmp_path / "whole" / "metrics.csv"
    ).read_text()


def test_a_run_without_its_last_checkpoint_is_neither_resumed_nor_written_over(
    command_line: CommandLine, refused: Callable[..., str], tmp_path: Path
) -> None:
    """As when it is killed between the best checkpoint and the last one of its first epoch."""
    run = tmp_path / "run"
    command_line(train.main, *TINY, "trainer.max_epochs=1", "callbacks.pictures=null", f"hydra.run.dir={run}")
    (run / "checkpoints" / "last.ckpt").unlink()
    assert "resume must have a checkpoint, got " in refused(train.main, f"resume={run}")
    line = refused(train.main, *TINY, f"hydra.run.dir={run}")
    assert "has no checkpoints/last.ckpt to continue from. Remove it" in line and "resume=" not in line


def test_a_resumed_run_goes_on_in_the_same_wandb_run(command_line: CommandLine, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command_line(
        train.main,
        *TINY,
        "trainer.max_epochs=1",
        "logger=wandb",
        "callbacks.pictures=null",
        f"hydra.run.dir={run}",
    )
    known = (run / "wandb_id").read_text().strip()
    # of the run's logger, although the command does not say logger=wandb
    command_line(train.main, f"resume={run}", "trainer.max_epochs=2", "logger.wandb.project=other")
    first, again = wandb_files(run)
    assert first.id == again.id == known and (first.project, again.project) == ("rpe", "other")
    assert yaml.safe_load((run / "resumed.yaml").read_text())["logger"]["wandb"]["project"] == "other"


def test_half_precision_is_the_networks_alone(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[torch.dtype]] = {"network": set(), "points": set(), "loss": set(), "weights": set()}
    loss_of, block_of = InstanceLoss.forward, ConvolutionBlock.forward

    def watched(loss: InstanceLoss, iterates: list[torch.Tensor], *others: object) -> dict[str, torch.Tensor]:
        terms = loss_of(loss, iterates, *others)  # type: ignore[arg-type]
        seen["points"] |= {points.dtype for points in iterates}
        seen["loss"] |= {term.dtype for term in terms.values()}
        return terms

    def network(block: ConvolutionBlock, images: torch.Tensor) -> torch.Tensor:
        out = block_of(block, images)
        if torch.is_grad_enabled():  # the initialisation from data looks at the first batch in full precision
            seen["network"].add(block[0](images).dtype)
        seen["weights"].add(block[0].weight.dtype)
        return out

    monkeypatch.setattr(InstanceLoss, "forward", watched)
    monkeypatch.setattr(ConvolutionBlock, "forward", network)
    command_line(
        train.main,
        *TINY,
        "precision=bf16",
        "callbacks.pictures=null",
        "trainer.max_epochs=1",
        "grouping.iterations=2",
        f"hydra.run.dir={tmp_path}",
    )
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert seen == {
        "network": {torch.bfloat16},
        "points": {torch.float32},
        "loss": {torch.float32},
        "weights": {torch.float32},
    }


def test_a_run_with_an_odd_name_is_evaluated_and_resumed(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "it's a=run (2), [x]"
    command_line(train.main, *TINY, "trainer.max_epochs=0", f"hydra.run.dir={odd}")
    command_line(
        train.main,
        *TINY,
        "trainer.max_epochs=0",
        f"init_from={odd / 'checkpoints' / 'last.ckpt'}",
        f"hydra.run.dir={tmp_path / 'new'}",
    )
    command_line(evaluate.main, f"run={odd}", "checkpoint=last")
    assert (odd / "evaluation" / "digits-val" / "metrics.json").is_file()
    shutil.move(odd, tmp_path / "17")
    monkeypatch.chdir(tmp_path)
    command_line(
        evaluate.main,
        "run=17",
        f"checkpoint={tmp_path / '17' / 'checkpoints' / 'last.ckpt'}",
        "split=test",
        "precision=bf16",
    )
    assert (
        json.loads((tmp_path / "17" / "evaluation" / "digits-test" / "metrics.json").read_text())["metrics"][
            "images"
        ]
        == 1
    )


def test_a_training_that_is_stopped_from_outside_does_not_end_well(
    command_line: CommandLine,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = InstanceTask.training_step

    def stopped(task: InstanceTask, batch: Batch, index: int) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(task, batch, index)

    monkeypatch.setattr(InstanceTask, "training_step", stopped)
    with pytest.raises(SystemExit) as stop:
        command_line(train.main, *TINY, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert stop.value.code == 143 and "error: stopped by SIGTERM" in capsys.readouterr().err
