import torch

from rpe.grouping import MeanShift
from rpe.network.backbone import UNet
from rpe.network.embedding import Embedding
from rpe.network.head import BoundaryClassifier, Classifier, Objectness
from rpe.network.model import BoundaryDetector, PixelEmbedding
from rpe.segment import select_image
from rpe.sphere import normalise
from rpe.structures import pixel_centres


def make_model(stride: int = 2) -> PixelEmbedding:
    return PixelEmbedding(
        UNet(width=8, levels=2, stride=stride, norm_window=None),
        Embedding(channels=8, dimension=4, hidden=8, coordinates="none", periods=[]),
        MeanShift(iterations=2, bandwidth=0.3, margin=0.5, learn_bandwidth=True),
        Objectness(channels=8, hidden=8, upscale=1),
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


def test_a_detector_embeds_and_groups_each_stage() -> None:
    backbone = UNet(width=8, levels=2, stride=2, norm_window=None)
    model = BoundaryDetector(
        backbone,
        [
            Embedding(channels=channels, dimension=3, hidden=8, coordinates="none", periods=[])
            for channels in backbone.channels
        ],
        MeanShift(iterations=2, bandwidth=0.3, margin=0.5, learn_bandwidth=False),
        BoundaryClassifier(dimension=3, stages=3, channels=8, hidden=4, upscale=2, features=False),
    )
    positions = pixel_centres((16, 24), torch.device("cpu"))[:50].expand(2, -1, -1)
    found, iterates = model(torch.rand(2, 3, 16, 24), positions)
    assert [stage.stride for stage in found.points] == [stage.stride for stage in found.stages] == [
        2,
        4,
        8,
    ] and found.fused.stride == 1
    assert [len(one) for one in iterates] == [3, 3, 3] and all(one[0].shape == (2, 50, 3) for one in iterates)
    assert torch.allclose(iterates[2][0], normalise(found.points[2].at(positions)))
    found.fused.values.sum().backward()
    assert all(
        parameter.grad is not None for embedding in model.embeddings for parameter in embedding.parameters()
    )


def test_with_classes_the_objectness_is_theirs() -> None:
    model = make_model()
    model.objectness = Classifier(channels=8, classes=5, hidden=8, upscale=1)
    images = torch.rand(2, 3, 16, 24)
    embedded = model.embed(images)
    assert (
        embedded.classes is not None
        and embedded.classes.values.shape == (2, 6, 8, 12)
        and embedded.objectness.values.shape == (2, 1, 8, 12)
    )
    one = select_image(embedded, 1)
    assert one.classes is not None and torch.equal(one.classes.values, embedded.classes.values[1:])
