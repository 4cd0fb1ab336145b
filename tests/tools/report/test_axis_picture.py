import io
from pathlib import Path

import numpy as np
import pytest
from made_sweep import write_point, write_sweep
from PIL import Image

from rpe.tools.report.axis_picture import draw_axis, draw_curves, draw_heat_map
from rpe.tools.report.comparison import Comparison, compare
from rpe.tools.report.jobs import read_sweep


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder, 60)
    return compare(read_sweep(folder), None)


def colours(picture: bytes) -> int:
    return len(np.unique(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3), axis=0))


def test_every_axis_and_pair_is_drawn(comparison: Comparison) -> None:
    curves = draw_curves(comparison)
    assert curves is not None
    for picture in (
        draw_axis(comparison, "embedding.dimension"),
        draw_axis(comparison, "loss.pairwise.margin"),
        draw_heat_map(comparison),
        curves,
    ):
        assert Image.open(io.BytesIO(picture)).width >= 700 and colours(picture) > 50


def test_the_points_change_the_picture(comparison: Comparison, tmp_path: Path) -> None:
    before = draw_axis(comparison, "loss.pairwise.margin")
    assert before == draw_axis(comparison, "loss.pairwise.margin")
    other = Comparison(
        comparison.sweep,
        comparison.axes,
        comparison.settings[:-3],
        comparison.metric,
        comparison.metrics,
        comparison.best,
    )
    assert before != draw_axis(other, "loss.pairwise.margin") and draw_heat_map(comparison) != draw_heat_map(
        other
    )


def test_axes_of_words_and_of_many_lines(tmp_path: Path) -> None:
    for number in range(12):
        overrides = {"embedding.dimension": number + 2, "loss.pairwise.margin": 0.5, "seed": 0}
        for kind in ("a", "b"):
            write_point(tmp_path / f"{number}{kind}", {**overrides, "backbone.width": kind}, pictures=0)
    comparison = compare(read_sweep(tmp_path), None)
    assert (
        colours(draw_axis(comparison, "backbone.width")) > 50
        and colours(draw_axis(comparison, "embedding.dimension")) > 50
    )


def test_no_epoch_no_curves(tmp_path: Path) -> None:
    write_point(tmp_path / "a", {"embedding.dimension": 3, "loss.pairwise.margin": 0.5, "seed": 0}, epochs=0)
    assert draw_curves(compare(read_sweep(tmp_path), None)) is None
