"""`python -m rpe.tools.packing`: table, files, advice, slips."""

import csv
from pathlib import Path

import pytest

from rpe.structures import UserError
from rpe.tools.packing import main, parse_numbers


def test_the_table_and_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["groups=6:8", "dimension=2,3", "margin=0.5", "starts=6", f"output={tmp_path / 'packing'}"])
    compute_rows = list(csv.DictReader((tmp_path / "packing.csv").open()))
    by = {(int(row["groups"]), int(row["dimension"])): row for row in compute_rows}
    assert len(compute_rows) == 6 and by[6, 2]["known"] == "exact" and by[7, 3]["known"] == "found"
    assert float(by[7, 3]["margin"]) == pytest.approx(0.60507, abs=1e-5) and float(
        by[8, 3]["floor"]
    ) == pytest.approx(0.0313, abs=2e-4)
    assert float(by[6, 3]["floor"]) == 0 and (tmp_path / "packing.png").stat().st_size > 10_000
    told = capsys.readouterr()
    assert "0.60507" in told.out and "7 groups in 3 dimensions: 0.60507" in told.err


def test_advice_on_a_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    main(["experiment=digits", "overrides=[data.train_scenes=300]", "dimension=2,16", "margin=0.5"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "D = 2: loss.pairwise.margin=0.75 and grouping.bandwidth=0.083 serve 95%"
    assert "images hold 3 to 6 groups: 2 dimensions at margin 0.5 can serve" in lines[1]
    assert lines[2].startswith("D = 16: loss.pairwise.margin=0.40") and lines[3].endswith(
        "can serve 100% of them"
    )


def test_numbers() -> None:
    assert (
        parse_numbers("groups", "2:4") == [2, 3, 4]
        and parse_numbers("groups", "2,8") == [2, 8]
        and parse_numbers("groups", [3]) == [3] == parse_numbers("groups", 3)
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("groups=0:3", "groups must be integers >= 1, got 0:3"),
        ("dimension=a", "dimension must be integers >= 1, got a"),
        ("margin=2", r"margin must be in \[0, 1\), got 2"),
        ("experiment=nothing", "experiment/nothing"),
        ("seed=abc", "seed must be an integer >= 0, got abc"),
        ("output=nowhere/packing", "output must be in an existing folder, got nowhere/packing"),
        ("margins=0.5", "keys must be one of groups, .*, got margins"),
    ],
)
def test_errors(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([argument])
