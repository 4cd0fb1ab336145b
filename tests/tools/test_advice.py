"""Whom a dimension and a margin serve."""

import pytest

from rpe.structures import UserError
from rpe.tools.advice import bandwidth_for, format_advice, main, recommend_margin, share_served

CROWD = [3] * 50 + [6] * 45 + [8] * 5


def test_shares_and_recommendations() -> None:
    assert (
        share_served(CROWD, 3, 0.5) == 0.95
        and share_served(CROWD, 3, 0.25) == 0.5
        and share_served(CROWD, 16, 0.5) == 1
    )
    assert (
        recommend_margin(CROWD, 3) == 0.5
        and recommend_margin(CROWD, 16) == 0.4
        and recommend_margin([30], 1) == 1
    )
    assert bandwidth_for(0.5) == 0.5 / 3 and bandwidth_for(0.95) == 0.02


def test_the_line_says_what_would_serve() -> None:
    assert (
        format_advice(CROWD, 3, 0.5, None)
        == "images hold 3 to 8 groups: 3 dimensions at margin 0.5 can serve 95% of them"
    )
    line = format_advice(CROWD, 3, 0.3, None)
    assert (
        "can serve 50% of them; the rest cannot reach zero loss" in line
        and "(loss.pairwise.margin=0.50 and grouping.bandwidth=0.167 serve 95%)" in line
    )
    assert "can serve at most 100%" in format_advice(
        [200], 64, 0.7, None
    ) and "are the least that could serve 95%" in format_advice([200], 8, 0.5, None)
    assert "(no margin below 1 serves 95%: raise embedding.dimension)" in format_advice(
        [40] * 5, 2, 0.5, None
    )
    assert "loss.pairwise.negative_range 48 separates only groups" in format_advice(CROWD, 3, 0.3, 48.0)


def test_each_job_of_a_sweep_is_advised(capsys: pytest.CaptureFixture[str]) -> None:
    main(["experiment=digits", "data.train_scenes=200", "embedding.dimension=2,16"])
    two, sixteen = capsys.readouterr().out.splitlines()
    assert (
        "embedding.dimension=2: images hold 3 to 6 groups: 2 dimensions at margin 0.5 can serve" in two
        and "cannot reach zero loss" in two
    )
    assert sixteen.endswith("16 dimensions at margin 0.5 can serve 100% of them")
    for wrong, line in (
        (["loss.pairwise.margin=2.0"], "loss.pairwise.margin must be in"),
        (["embedding.dimension=1"], "must be an integer >= 2, got 1"),
    ):
        with pytest.raises(UserError, match=line):
            main(["experiment=digits", *wrong])
