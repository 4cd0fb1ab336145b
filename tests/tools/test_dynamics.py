from pathlib import Path

import pytest
from PIL import Image
from written_run import SMALL, write_run

from rpe.structures import UserError
from rpe.tools.dynamics import main


def test_all_pictures_of_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", *SMALL, "embedding.dimension=5")
    main([f"run={run}", "image=1", "loops=2"])
    folder = run / "dynamics"
    assert sorted(file.name for file in folder.iterdir()) == [
        "comparison.png",
        "gradients.png",
        "moves.csv",
        "projections.png",
        "sphere.gif",
        "sphere.png",
        "surviving.csv",
        "surviving.png",
    ]
    table = (folder / "moves.csv").read_text()
    assert table in capsys.readouterr().out and len(table.splitlines()) == 3
    assert all(Image.open(file).size[0] > 300 for file in folder.iterdir() if file.suffix != ".csv")
    # the first step is the same: the keys are X_0 in both
    row = table.splitlines()[1].split(",")
    assert row[1] == pytest.approx(row[3]) or abs(float(row[1]) - float(row[3])) < 1e-5
    main(
        [
            f"run={run}",
            "image=1",
            "loops=2",
            "bandwidth=1.5",
            "animation=false",
            f"output={tmp_path / 'wide'}",
        ]
    )
    assert (tmp_path / "wide" / "moves.csv").read_text() != table and not (
        tmp_path / "wide" / "sphere.gif"
    ).exists()


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run or output must be given, got neither"):
        main([])
    run = write_run(tmp_path / "run", *SMALL)
    with pytest.raises(UserError, match="image must be < 4 for split=val, got 4"):
        main([f"run={run}", "image=4"])
    with pytest.raises(UserError, match="image must be an integer >= 0, got -1"):
        main([f"run={run}", "image=-1"])
    with pytest.raises(UserError, match="split must be one of train, val, test, got 'tset'"):
        main([f"run={run}", "split=tset"])
    with pytest.raises(UserError, match="loops must be an integer >= 1, got 0"):
        main([f"run={run}", "loops=0"])
    with pytest.raises(UserError, match="animation must be true or false, got no_gif"):
        main([f"run={run}", "animation=no_gif"])
    with pytest.raises(UserError, match="bandwidth must be a number, got abc"):
        main([f"run={run}", "bandwidth=abc"])
    assert not (run / "dynamics").exists()
    boundaries = write_run(
        tmp_path / "bsds",
        "experiment=bsds_scratch",
        f"data.root={tmp_path}",
        "backbone.width=4",
        "embedding.hidden=4",
        "head.hidden=4",
    )
    with pytest.raises(
        UserError, match="run must group pixels into objects, got .*, which detects boundaries"
    ):
        main([f"run={boundaries}"])
