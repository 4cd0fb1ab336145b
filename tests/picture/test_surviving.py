import math

import pytest
import torch

from rpe.grouping import mean_shift
from rpe.loss import pairwise_margin_loss
from rpe.picture.surviving import SHOWN_LOOPS, trace_survival
from rpe.sphere import concentration_of_bandwidth
from rpe.structures import VOID


def circle(degrees: list[float]) -> torch.Tensor:
    angles = torch.tensor([math.radians(one) for one in degrees], dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], -1)[None]


# two groups of five, a pixel of the first between them, one that the second has taken, and void
ANGLES = [-60.0, -55.0, -52.0, -50.0, -45.0, 45.0, 50.0, 52.0, 55.0, 60.0, 2.0, 40.0, 0.0]
LABELS = [1] * 5 + [2] * 5 + [1, 1, VOID]


def test_lost_pixels_keep_the_gradient() -> None:
    survival = trace_survival(circle(ANGLES), torch.tensor(LABELS), concentration_of_bandwidth(0.25), 0.5)
    assert survival.fates.tolist()[:10] == [0] * 10 and survival.fates.tolist()[11:] == [2, -1]
    rows = {line.split(",")[0]: line.split(",") for line in survival.table().splitlines()}
    assert rows["pixels"] == ["pixels", "share", *(f"gradient-{loops}" for loops in SHOWN_LOOPS)]
    assert float(rows["right"][1]) == pytest.approx(11 / 12, abs=1e-4)
    # without a loop the farthest from their group are pulled hardest, and void has no loss of its own
    assert set(survival.gradients[0].topk(2).indices.tolist()) == {10, 11} and survival.gradients[0, 12] == 0


def test_gradients_are_those_of_a_step_along_the_sphere() -> None:
    points, labels = circle(ANGLES), torch.tensor(LABELS)
    kappa = concentration_of_bandwidth(0.25)
    survival = trace_survival(points, labels, kappa, 0.5)

    def loss(pixel: int, turn: float, loops: int) -> float:
        degrees = list(ANGLES)
        degrees[pixel] += math.degrees(turn)
        return float(pairwise_margin_loss(mean_shift(circle(degrees), kappa, loops)[-1], labels[None], 0.5))

    for number, loops in enumerate(SHOWN_LOOPS):
        for pixel in (0, 10, 11):
            slope = (loss(pixel, 1e-5, loops) - loss(pixel, -1e-5, loops)) / 2e-5
            assert float(survival.gradients[number, pixel]) == pytest.approx(abs(slope), rel=1e-4, abs=1e-9)


def test_a_large_group_repairs_a_pixel_beyond_the_middle() -> None:
    # at 5 degrees the mean of the five at 55 is nearer, but ten at -55 pull harder
    degrees, labels = [-55.0] * 10 + [55.0] * 5 + [5.0], torch.tensor([1] * 10 + [2] * 5 + [1])
    survival = trace_survival(circle(degrees), labels, concentration_of_bandwidth(0.5), 0.5)
    assert survival.fates.tolist() == [0] * 15 + [1]
    assert "lost" not in survival.table() and "\nrepaired,0.0625," in survival.table()
