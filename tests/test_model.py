import torch

from rpe.backbone import UNet
from rpe.embedding import Embedding
from rpe.grouping import MeanShift
from rpe.head import Objectness
from rpe.model import PixelEmbedding
from rpe.proposal import PlainRanker
from rpe.structures import pixel_centres


def make_model(stride: int = 2) -> PixelEmbedding:
    return PixelEmbedding(
        UNet(width=8, levels=2, stride=stride),
        Embedding(channels=8, dimension=4, hidden=8, coordinates="none", periods=[]),
        MeanShift(iterations=2, bandwidth=0.3, margin=0.5, learn_bandwidth=True, step=1.0),
        Objectness(channels=8, hidden=8, subdivision=1),
        PlainRanker(channels=8, typical_area=20.0),
    )


def test_forward_is_the_figure() -> None:
    model = make_model()
    positions = pixel_centres((16, 24), torch.device("cpu")).expand(2, -1, -1)
    embedded, iterates = model(torch.rand(2, 3, 16, 24), positions)
    assert len(iterates) == 3 and iterates[0].shape == (2, 16 * 24, 4)
    assert torch.allclose(iterates[0].norm(dim=-1), torch.ones(2, 16 * 24), atol=1e-5)
    assert embedded.objectness.values.shape == (2, 1, 8, 12)
    (iterates[-1].square() * torch.arange(4)).sum().backward()
    assert float(model.grouping.log_bandwidth.grad) != 0
    assert all(parameter.grad is not None for parameter in model.backbone.decoder.joins[0].parameters())
