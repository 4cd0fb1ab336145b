from pathlib import Path

import torch
from tiny import tiny

import train

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
