import pytest
import torch

from rpe.segment.calibration import CalibratedRanker
from rpe.segment.features import HANDCRAFTED, GroupFeatures
from rpe.segment.ranker import Ranker


class Given(Ranker):
    """The first plain feature is the score."""

    def forward(self, features: GroupFeatures) -> torch.Tensor:
        return features.handcrafted[:, 0]


def test_scores_follow_the_map_and_keep_their_order() -> None:
    raw = torch.linspace(0, 1, 2001)
    features = GroupFeatures(raw[:, None].repeat(1, len(HANDCRAFTED)), torch.zeros(2001, 1))
    # a jump, and flat below and above it
    score = CalibratedRanker(Given(), [0.2, 0.4, 0.400001, 0.8], [0.1, 0.1, 0.7, 0.7])(features)
    assert (score.diff() > 0).all(), "equal scores would let another order in"
    assert score[400].item() == pytest.approx(0.1, abs=1e-5) and score[-1].item() == pytest.approx(
        0.7, abs=1e-5
    )
    assert (
        len(
            CalibratedRanker(Given(), [0.0, 1.0], [0.0, 1.0])(
                GroupFeatures(torch.zeros(0, len(HANDCRAFTED)), torch.zeros(0, 1))
            )
        )
        == 0
    )
