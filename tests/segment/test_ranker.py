import pytest
import torch

from rpe.segment.features import HANDCRAFTED, GroupFeatures
from rpe.segment.ranker import CalibratedRanker, HeuristicRanker, LearnedRanker, RandomRanker, Ranker


def groups(**features: list[float]) -> GroupFeatures:
    count = len(next(iter(features.values())))
    plain = torch.tensor([features.get(name.replace("-", "_"), [0.5] * count) for name in HANDCRAFTED]).T
    return GroupFeatures(plain, torch.randn(count, 6))


def test_the_learned_ranker_learns_which_groups_are_good() -> None:
    ranker = LearnedRanker(channels=6, hidden=16)
    optimizer = torch.optim.Adam(ranker.parameters(), lr=0.02)
    for _ in range(200):
        fill = torch.rand(32)
        loss = ranker.loss(groups(fill=fill.tolist()), fill)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fill = torch.linspace(0, 1, 21)
    score = ranker(groups(fill=fill.tolist()))
    assert torch.corrcoef(torch.stack([fill, score]))[0, 1] > 0.95 and (score - fill).abs().mean() < 0.1


def test_its_loss_bends_no_embedding_and_is_defined_without_groups() -> None:
    ranker = LearnedRanker(channels=6, hidden=4)
    features = groups(fill=[0.1, 0.9])
    features.pooled.requires_grad_()
    ranker.loss(features, torch.tensor([0.2, 0.8])).backward()
    assert features.pooled.grad is None and ranker.layers[0].weight.grad.abs().sum() > 0
    ranker.zero_grad()
    nothing = ranker.loss(GroupFeatures(torch.zeros(0, len(HANDCRAFTED)), torch.zeros(0, 6)), torch.zeros(0))
    nothing.backward()
    assert float(nothing.detach()) == 0 and all(
        parameter.grad is not None for parameter in ranker.parameters()
    ), "ranks without groups still agree"


@pytest.mark.parametrize(
    ("feature", "better", "worse"),
    [
        ("objectness", 0.9, 0.6),
        ("cohesion", 0.9, 0.6),
        ("similarity_around", 0.5, 0.9),
        ("objectness_around", 0.1, 0.9),
        ("log_area", 5.0, 1.0),
    ],
)
def test_the_plain_ranker_prefers(feature: str, better: float, worse: float) -> None:
    ranker = HeuristicRanker(channels=6, typical_area=20.0)
    one, other = ranker(groups(**{feature: [better, worse]}))
    assert 0 <= other < one <= 1


def test_the_random_ranker_knows_nothing_but_repeats_itself() -> None:
    ranker: Ranker = RandomRanker(channels=6)
    features = groups(fill=[0.5] * 1000)
    score = ranker(features)
    assert torch.equal(score, ranker(features)) and 0.45 < float(score.mean()) < 0.55 and not ranker.learns
    assert float(ranker.loss(features, score)) == 0


def test_a_groups_place_in_its_partition_does_not_decide_its_random_score() -> None:
    """Partitions list their heaviest group first: were the numbers the same everywhere, the order would know the size."""
    ranker = RandomRanker(channels=6)
    areas = (2 + torch.rand(300, 5)).sort(descending=True).values
    scores = torch.stack([ranker(groups(log_area=one.tolist())) for one in areas])
    assert len(scores.unique()) > 1490 and ((scores.mean(0) - 0.5).abs() < 0.06).all()
    first = scores.argmax(1).bincount(minlength=5)
    assert first.min() > 30, "each place comes first about as often"


def test_the_random_order_does_not_hang_on_how_sums_were_rounded() -> None:
    ranker = RandomRanker(channels=6)
    features = groups(log_area=[3.0, 2.5, 2.0], objectness=[0.9, 0.8, 0.7])
    again = GroupFeatures(features.handcrafted * (1 + 1e-7), features.pooled * (1 + 1e-6))
    assert torch.equal(ranker(features), ranker(again))


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
