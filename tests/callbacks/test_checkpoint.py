from pathlib import Path

import pytest
import torch

from rpe.callbacks.checkpoint import Checkpoint, WholeCheckpoints


def test_the_state_of_a_moved_run_is_that_of_this_folder(tmp_path: Path) -> None:
    there, here = Checkpoint(tmp_path / "a", "best", "val/x"), Checkpoint(tmp_path / "b", "best", "val/x")
    old = str(tmp_path / "a" / "best.ckpt")
    there.best_model_score = there.kth_value = torch.tensor(0.7)
    there.best_model_path = there.kth_best_model_path = old
    there.best_k_models = {old: torch.tensor(0.7)}
    here.load_state_dict(there.state_dict())
    new = str(tmp_path / "b" / "best.ckpt")
    assert here.best_model_path == here.kth_best_model_path == new and here.best_k_models == {
        new: torch.tensor(0.7)
    }
    assert (
        here.best_model_score == here.kth_value == torch.tensor(0.7)
        and here.last_model_path == ""
        and here.dirpath == str(tmp_path / "b")
    )
    assert (
        here.state_key == there.state_key
        and here.mode == "max"
        and not here.check_monitor_top_k(torch.tensor(0.6))
    )


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    writer, file = WholeCheckpoints(), tmp_path / "checkpoints" / "last.ckpt"
    writer.save_checkpoint({"epoch": 1}, file)
    with pytest.raises(Exception, match="pickle"):
        writer.save_checkpoint({"weights": torch.zeros(100_000), "epoch": lambda: 2}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 1}
    writer.save_checkpoint({"epoch": 2}, file)
    assert writer.load_checkpoint(file) == {"epoch": 2} and [path.name for path in file.parent.iterdir()] == [
        "last.ckpt"
    ]


def test_a_checkpoint_of_an_earlier_run_is_resumed_with_todays_names(tmp_path: Path) -> None:
    torch.save({"state_dict": {"model.ranker.a": torch.ones(1)}}, tmp_path / "last.ckpt")
    assert list(WholeCheckpoints().load_checkpoint(tmp_path / "last.ckpt")["state_dict"]) == [
        "proposal.ranker.a"
    ]
