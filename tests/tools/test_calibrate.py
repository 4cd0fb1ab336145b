"""Calibrated scores and the tables of an evaluation, through the commands as a user has them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from written_run import SMALL, write_run

import evaluate
from rpe.structures import UserError
from rpe.tools.calibrate import main
from rpe.tools.gallery.__main__ import main as gallery

# so that untrained embeddings yield objects
FOUND = (
    "proposal.foreground_thresholds=[0.3]",
    "proposal.score_threshold=0.05",
    "proposal.split_components=true",
    "grouping.iterations=1",
)


def test_calibrated_scores_are_ious_and_keep_the_order(
    command_line: Callable[..., None],
    refused: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run", *SMALL, *FOUND)
    assert "Run python -m rpe.tools.calibrate" in refused(evaluate.main, f"run={run}", "calibrated=true")
    main([f"run={run}"])
    said = capsys.readouterr().out
    about = json.loads((run / "calibration.json").read_text())["about"]
    assert (
        f"{about['masks']:,} masks of 4 images of digits val" in said
        and "fitted on every other image" in said
    )
    figures = {}
    for calibrated in ("false", "true"):
        folder = tmp_path / calibrated
        command_line(evaluate.main, f"run={run}", f"calibrated={calibrated}", f"hydra.run.dir={folder}")
        figures[calibrated] = json.loads((folder / "metrics.json").read_text())["metrics"]
        assert (folder / "pictures" / "reliability.png").is_file() and len(
            (folder / "reliability.csv").read_text().splitlines()
        ) == 11
    raw, calibrated = figures["false"], figures["true"]
    assert (
        raw["score-ECE"] == pytest.approx(about["ECE"], abs=1e-6)
        and calibrated["score-ECE"] < 0.01 < raw["score-ECE"]
    )
    assert {name: value for name, value in raw.items() if name.startswith("AR")} == {
        name: value for name, value in calibrated.items() if name.startswith("AR")
    }
    assert "with other ranker" in refused(evaluate.main, f"run={run}", "calibrated=true", "ranker=random")
    assert "beside predictions=" in refused(
        evaluate.main, f"predictions={run}", "data=digits", "calibrated=true"
    )

    with (tmp_path / "false" / "images.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert sorted(int(row["image_id"]) for row in table) == [1, 2, 3, 4]
    counts = {
        name: sum(int(row[name]) for row in table) for name in ("proposals", "matched", "missed", "extra")
    }
    assert counts["proposals"] == raw["masks-per-image"] * 4
    assert counts["matched"] / sum(counts[name] for name in ("matched", "missed", "extra")) == pytest.approx(
        raw["AP50-pooled"]
    )

    gallery(
        [
            f"run={run}",
            "images=2",
            f"order={tmp_path / 'false' / 'images.csv'}",
            f"output={tmp_path / 'page.html'}",
        ]
    )
    page = (tmp_path / "page.html").read_text()
    places = [page.index(f"<h2>image {row['image_id']}: {row['file_name']}</h2>") for row in table[:2]]
    assert (
        places == sorted(places) and page.count("<section>") == 2 and f"{table[0]['missed']} missed" in page
    )
    with pytest.raises(UserError, match="order must be images.csv of an evaluation"):
        gallery([f"run={run}", f"order={tmp_path / 'none.csv'}"])


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run must be a run folder, got none"):
        main([])
    with pytest.raises(UserError, match="run must be one that finds objects"):
        main(
            [
                f"run={write_run(tmp_path / 'run', 'experiment=bsds_scratch', 'backbone.width=4', f'data.root={tmp_path}')}"
            ]
        )
