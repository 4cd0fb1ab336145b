"""Tuned inference settings, through the commands as a user has them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from written_run import write_run

import evaluate
import predict
from rpe.run_files import read_run
from rpe.structures import UserError
from rpe.tools import tune
from rpe.tools.tune import Setting, candidates, main

TRAINED = Path(__file__).parents[2] / "weights" / "digits"


def copy_run(folder: Path) -> Path:
    """The trained digits with two validation scenes, and a score threshold that no mask reaches."""
    shutil.copytree(TRAINED, folder)
    config = OmegaConf.create(read_run(str(folder)))
    config.data.val_scenes, config.proposal.score_threshold = 2, 1.0
    config.proposal.iterations, config.proposal.max_keys = [2], 256  # less time
    OmegaConf.save(config, folder / "config.yaml")
    return folder


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try one other value of each setting."""
    for name, values in (("GATE_SHIFTS", (0.5,)), ("BANDWIDTH_FACTORS", (0.75,)), ("AREA_FACTORS", (2,))):
        monkeypatch.setattr(tune, name, values)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("metric", ["AP", "AR@10"])
def test_tuned_settings_have_the_figure_that_was_printed(
    metric: str,
    command_line: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run = copy_run(tmp_path / "run")
    main([f"run={run}", f"metric={metric}"])
    printed = capsys.readouterr().out
    content = json.loads((run / "tuned.json").read_text())
    about, chosen = content["about"], content["proposal"]
    assert about["images"] == 2 and about["chosen"] >= about["before"] and "both ways" in printed
    figures = {}
    for tuned in ("false", "true"):
        folder = tmp_path / tuned
        command_line(evaluate.main, f"run={run}", f"tuned={tuned}", f"hydra.run.dir={folder}")
        found = json.loads((folder / "metrics.json").read_text())["metrics"]
        over = [found.get(f"AP{percent}", 0.0) for percent in range(50, 95, 5)]
        figures[tuned] = float(np.mean(over)) if metric == "AP" else found.get(metric, 0.0)
    assert figures["false"] == pytest.approx(about["before"], abs=1e-6)
    assert figures["true"] == pytest.approx(about["chosen"], abs=1e-6)
    if metric == "AP":  # before, no mask has a score over the threshold of 1
        assert figures["true"] > figures["false"] == 0 and chosen["score_threshold"] < 1


@pytest.mark.usefixtures("few")
def test_the_command_line_wins_and_other_weights_are_refused(
    command_line: Callable[..., None], refused: Callable[..., str], tmp_path: Path
) -> None:
    run = copy_run(tmp_path / "run")
    assert f"Run python -m rpe.tools.tune run={run} first" in refused(
        evaluate.main, f"run={run}", "tuned=true"
    )
    main([f"run={run}"])
    file = run / "tuned.json"
    content = json.loads(file.read_text())
    content["proposal"] = {
        "foreground_thresholds": [0.2],
        "bandwidths": [0.3],
        "min_area": 3,
        "score_threshold": 0.1,
    }
    file.write_text(json.dumps(content))
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    command_line(
        predict.main,
        f"run={run}",
        f"images={tmp_path / 'a.png'}",
        f"output={tmp_path / 'out'}",
        "tuned=true",
        "proposal.min_area=9",
    )
    used = OmegaConf.load(tmp_path / "out" / "predictions.yaml").settings.proposal
    assert used.min_area == 9 and used.bandwidths == [0.3] and used.score_threshold == 0.1
    assert read_run(str(run))["proposal"]["score_threshold"] == 1, "the run itself stays"
    assert "with other ranker" in refused(evaluate.main, f"run={run}", "tuned=true", "ranker=random")
    assert "beside calibrated=true" in refused(evaluate.main, f"run={run}", "tuned=true", "calibrated=true")
    assert "beside predictions=" in refused(evaluate.main, f"predictions={run}", "data=digits", "tuned=true")


def test_lists_move_as_a_whole_and_stay_in_range() -> None:
    values = candidates(Setting((0.05, 0.5), (0.04, 1.9), 1))
    assert values["bandwidths"] == [(0.02, 0.95), (0.03, 1.425), (0.05, 2.0), (0.06, 2.0)]
    assert values["foreground_thresholds"][-1] == (0.125, 0.731) and values["min_area"] == [2, 4, 8]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="metric must be one of AP50, AP, AR@10, got mIoU"):
        main(["run=x", "metric=mIoU"])
    with pytest.raises(UserError, match="run must be a run folder, got none"):
        main([])
    run = write_run(tmp_path / "run", "experiment=bsds", "backbone.width=4", f"data.root={tmp_path}")
    with pytest.raises(UserError, match="run must be one that finds objects"):
        main([f"run={run}"])
