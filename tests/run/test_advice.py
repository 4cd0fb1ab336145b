"""Whom a dimension and a margin serve."""

from hydra import compose, initialize_config_dir

from rpe.run.advice import (
    Choices,
    advice,
    advice_for,
    bandwidth_for,
    choices_of,
    groups_of_images,
    points_that_cannot,
    recommended_margin,
    share_served,
)
from rpe.run.building import build_data
from rpe.run.composing import composed
from rpe.run.folder import SOURCE

CROWD = [3] * 50 + [6] * 45 + [8] * 5


def test_shares_and_recommendations() -> None:
    assert share_served(CROWD, 3, 0.5) == 0.95 and share_served(CROWD, 3, 0.25) == 0.5 and share_served(CROWD, 16, 0.5) == 1
    assert recommended_margin(CROWD, 3) == 0.5 and recommended_margin(CROWD, 16) == 0.4 and recommended_margin([30], 1) == 1
    assert bandwidth_for(0.5) == 0.5 / 3 and bandwidth_for(0.95) == 0.02


def test_the_line_says_what_would_serve() -> None:
    assert advice(CROWD, 3, 0.5, None) == "images hold 3 to 8 groups: 3 dimensions at margin 0.5 can serve 95% of them"
    line = advice(CROWD, 3, 0.3, None)
    assert "can serve 50% of them; the others have a loss floor" in line and "(loss.margin=0.50 and grouping.bandwidth=0.167 serve 95%)" in line
    assert "can serve at most 100%" in advice([200], 64, 0.7, None) and "are the least that could serve 95%" in advice([200], 8, 0.5, None)
    assert "(no margin below 1 serves 95%: raise embedding.dimension)" in advice([40] * 5, 2, 0.5, None)
    assert "within loss.negative_range 48 pixels" in advice(CROWD, 3, 0.3, 48.0)


def test_digits_hold_their_digits_and_the_background() -> None:
    config = composed(["data.train_scenes=200", "embedding.dimension=2"])
    groups = groups_of_images(build_data(config))
    assert set(groups) == {3, 4, 5, 6} and len(groups) == 100
    assert choices_of(config) == (2, 0.5, None) and "2 dimensions at margin 0.5 can serve" in (advice_for(config, build_data(config)) or "")
    with initialize_config_dir(f"{SOURCE}/conf", version_base="1.3"):
        assert choices_of(compose("train", ["loss.margin=2.0"])) is None, "what is refused elsewhere"


def test_points_of_a_sweep_that_cannot() -> None:
    points = {"a": Choices(3, 0.5, None, CROWD), "b": Choices(16, 0.5, None, CROWD), "c": Choices(2, 0.3, 48.0, CROWD)}
    (line,) = points_that_cannot(points)
    assert (
        line
        == "a: 5% of the images hold more groups than 3 dimensions can part at margin 0.5 (0.63 is the best found for 8); it runs, with a loss floor"
    )
