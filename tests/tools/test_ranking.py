from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny

import train
from rpe.run.trained import load_run
from rpe.segment import LearnedRanker
from rpe.structures import UserError
from rpe.tools import ranking


def test_the_fit_finds_which_feature_tells_the_quality() -> None:
    torch.manual_seed(0)
    features = torch.randn(600, 13) * 5 + 100  # not standardised
    quality = torch.sigmoid(features[:, 4] - 100)
    ranker = LearnedRanker(channels=3, hidden=16)
    before, after = ranking.fit_ranker(ranker, features, quality, torch.ones(600), epochs=40, seed=0)
    expected = ranker.layers(features)[:, 0].sigmoid()
    assert after < before and float(np.corrcoef(expected.detach(), quality)[0, 1]) > 0.9


def test_a_run_gets_a_new_ranker_and_keeps_its_network(
    command_line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command_line(
        train.main,
        "experiment=digits",
        *tiny(8, 2, 2),
        "ranker=learned",
        "trainer.max_epochs=1",
        "callbacks.pictures.images=0",
        f"hydra.run.dir={run}",
    )
    old = load_run(str(run)).task.state_dict()
    ranking.main([f"run={run}", "images=4", "epochs=2"])
    assert "groups of 4 images" in capsys.readouterr().out
    new = load_run(str(run)).task.state_dict()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved and all(".ranker." in name for name in moved)
    with pytest.raises(UserError, match="images must be an integer >= 1, got 0"):
        ranking.main([f"run={run}", "images=0"])


def test_a_ranker_that_does_not_learn_is_refused(command_line, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command_line(
        train.main,
        "experiment=digits",
        *tiny(4, 2, 2),
        "ranker=heuristic",
        "trainer.max_epochs=0",
        "callbacks.pictures.images=0",
        f"hydra.run.dir={run}",
    )
    with pytest.raises(UserError, match="run must have ranker=learned"):
        ranking.main([f"run={run}"])
