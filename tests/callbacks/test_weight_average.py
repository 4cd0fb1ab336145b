from pathlib import Path

import pytest
import torch
from tiny import tiny

import train
from rpe.callbacks.weight_average import WeightAverage
from rpe.structures import UserError

AVERAGED = [
    "trainer.max_epochs=2",
    "callbacks=average",
    "callbacks.weight_average.decay=0.5",
    "callbacks.pictures.images=0",
]


def test_checkpoints_hold_the_average_and_a_resumed_run_goes_on_as_if_uninterrupted(
    command_line, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command_line(train.main, *tiny(8, 2, 2), *AVERAGED, f"hydra.run.dir={whole}")
    command_line(
        train.main,
        *tiny(8, 2, 2),
        *AVERAGED,
        "trainer.max_epochs=1",
        "schedule=constant",
        f"hydra.run.dir={cut}",
    )
    first = torch.load(cut / "checkpoints" / "last.ckpt", weights_only=True)
    name = "model.embedding.layers.2.weight"
    assert not torch.equal(first["state_dict"][name], first["current_model_state"][name]), (
        "the average lags behind"
    )
    command_line(train.main, f"resume={cut}", "trainer.max_epochs=2")
    command_line(
        train.main, *tiny(8, 2, 2), *AVERAGED, "schedule=constant", f"hydra.run.dir={tmp_path / 'straight'}"
    )
    resumed, straight = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)
        for run in ("cut", "straight")
    )
    for part in ("state_dict", "current_model_state"):
        assert torch.equal(resumed[part][name], straight[part][name])


def test_a_short_training_forgets_its_initial_weights() -> None:
    callback = WeightAverage(0.998)
    value = torch.zeros(1)
    shares = []
    for step in range(1, 20001):
        value = callback.average(value, torch.ones(1), torch.tensor(step))
        shares.append(1 - float(callback.average(torch.ones(1), torch.zeros(1), torch.tensor(step))))
        if step == 60:
            assert float(value) > 0.9999
    assert shares[0] == pytest.approx(9 / 11) and shares[-1] == pytest.approx(0.002, abs=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match=r"callbacks\.weight_average\.decay must be in \[0, 1\)"):
        WeightAverage(decay)
