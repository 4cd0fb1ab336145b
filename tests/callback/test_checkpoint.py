from pathlib import Path

import torch

from rpe.callback.checkpoint import Checkpoint


def test_the_state_of_a_moved_run_is_that_of_this_folder(tmp_path: Path) -> None:
    there, here = Checkpoint(tmp_path / "a", "best", "val/x"), Checkpoint(tmp_path / "b", "best", "val/x")
    old = str(tmp_path / "a" / "best.ckpt")
    there.best_model_score = there.kth_value = torch.tensor(0.7)
    there.best_model_path = there.kth_best_model_path = old
    there.best_k_models = {old: torch.tensor(0.7)}
    here.load_state_dict(there.state_dict())
    new = str(tmp_path / "b" / "best.ckpt")
    assert here.best_model_path == here.kth_best_model_path == new and here.best_k_models == {new: torch.tensor(0.7)}
    assert here.best_model_score == here.kth_value == torch.tensor(0.7) and here.last_model_path == "" and here.dirpath == str(tmp_path / "b")
    assert here.state_key == there.state_key and here.mode == "max" and not here.check_monitor_top_k(torch.tensor(0.6))
