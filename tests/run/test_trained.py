from pathlib import Path

import pytest
import torch
from written_run import SMALL, write_run

from rpe.run.trained import read_trained
from rpe.structures import UserError


def test_a_run_is_read_back_with_its_weights(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", *SMALL, "embedding.dimension=3")
    config, task = read_trained(str(run))
    assert config.embedding.dimension == 3 and not task.training
    state = torch.load(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert state.keys() == task.state_dict().keys() and all(torch.equal(state[name], value) for name, value in task.state_dict().items())


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run is missing"):
        read_trained(None)
    run = write_run(tmp_path / "run", *SMALL)
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(UserError, match="does not exist: name a run folder that has trained"):
        read_trained(str(run))
