from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rpe.grouping import mean_shift
from rpe.loss import pairwise_margin_loss
from rpe.picture.gradients import draw_gradients, forces_on_outlier, trace_flow, two_groups


def loss_of(angles: torch.Tensor, labels: torch.Tensor, loops: int) -> float:
    points = torch.stack([angles.cos(), angles.sin()], -1)[None]
    return float(pairwise_margin_loss(mean_shift(points, 25.0, loops)[-1], labels[None], 0.5))


@pytest.mark.parametrize("loops", [0, 1, 3, 5, 7])
def test_force_is_minus_the_finite_difference(loops: int) -> None:
    angles, labels = two_groups(11.0, 6)
    force = trace_flow(angles, labels, loops, 0.2, 0.5).force
    for point in (0, 8, 12):
        bump = torch.zeros_like(angles)
        bump[point] = 1e-5
        difference = (loss_of(angles + bump, labels, loops) - loss_of(angles - bump, labels, loops)) / 2e-5
        assert float(force[point]) == pytest.approx(-difference, rel=1e-4, abs=1e-8)


def test_the_story_that_the_picture_tells() -> None:
    angles, labels = two_groups(11.0, 20)
    flows = {loops: trace_flow(angles, labels, loops, 0.2, 0.5) for loops in (0, 1, 3, 5, 7)}
    outlier = {loops: float(one.force[-1]) for loops, one in flows.items()}
    assert outlier[5] < outlier[3] < outlier[1] < outlier[0] < 0, "homewards, and more with each loop"
    assert abs(outlier[7]) < 0.1 * abs(outlier[0]), "gone where it has arrived"
    assert float(torch.rad2deg(flows[7].angles[-1, -1])) == pytest.approx(55, abs=2), "at the other group"
    own = {loops: float(one.force[:20].abs().max()) for loops, one in flows.items()}
    assert own[1] < 0.3 * own[0] and own[3] < 0.3 * own[0], "what comes home by itself is let alone"
    assert torch.equal(flows[7].angles[:4], flows[3].angles), "one trajectory, cut at different loops"


def test_many_places_at_once_are_each_for_itself() -> None:
    forces = forces_on_outlier(np.array([-30.0, 4.0, 11.0]), (0, 5), 8, 0.2, 0.5)
    for column, place in enumerate((-30.0, 4.0, 11.0)):
        for row, loops in enumerate((0, 5)):
            assert forces[row, column] == pytest.approx(
                float(trace_flow(*two_groups(place, 8), loops, 0.2, 0.5).force[-1]), rel=1e-9, abs=1e-15
            )


def test_every_loop_sharpens_the_watershed() -> None:
    places = np.linspace(5, 20, 31)
    peaks = np.abs(forces_on_outlier(places, (1, 3, 5, 7), 20, 0.2, 0.5))
    assert all(later.max() > 1.3 * earlier.max() for earlier, later in pairwise(peaks))
    assert all(
        (later > later.max() / 2).sum() < (earlier > earlier.max() / 2).sum()
        for earlier, later in pairwise(peaks)
    )


def test_it_is_drawn(tmp_path: Path) -> None:
    draw_gradients(11.0, 6, 0.2, 0.5, tmp_path / "one.png")
    pixels = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3)
    colours = {tuple(colour) for colour in pixels}
    assert {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xD5, 0x5E, 0x00)} <= colours, (
        "both groups and the outlier"
    )
