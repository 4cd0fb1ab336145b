import math

import pytest
import torch

from rpe.network.embedding import Embedding, feature_cell_centres, periodic_coordinates
from rpe.structures import FeatureMap, UserError


def test_points_are_on_the_sphere_even_under_autocast() -> None:
    embedding = Embedding(channels=8, dimension=5, hidden=16, coordinates="none", periods=[])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        points = embedding(FeatureMap(torch.randn(2, 8, 6, 7), 4))
    assert points.stride == 4 and points.values.shape == (2, 5, 6, 7) and points.values.dtype == torch.float32
    assert torch.allclose(points.values.norm(dim=1), torch.ones(2, 6, 7), atol=1e-6)


def test_coordinates_are_periodic_in_pixels_not_in_cells() -> None:
    fine = periodic_coordinates(FeatureMap(torch.zeros(1, 1, 16, 16), 2), [16, 32])
    coarse = periodic_coordinates(FeatureMap(torch.zeros(1, 1, 16, 16), 4), [16, 32])
    assert fine.shape == (1, 8, 16, 16)
    assert torch.allclose(fine[:, [0, 1, 4, 5], :8, :8], fine[:, [0, 1, 4, 5], 8:, 8:], atol=1e-5)
    assert float(fine[0, 0, 3, 0]) == pytest.approx(math.sin(2 * math.pi * 7 / 16), abs=1e-6)
    assert float(coarse[0, 0, 3, 0]) == pytest.approx(math.sin(2 * math.pi * 14 / 16), abs=1e-6)


def test_coordinates_tell_twins_apart() -> None:
    embedding = Embedding(channels=2, dimension=8, hidden=16, coordinates="periodic", periods=[64])
    values = embedding(FeatureMap(torch.ones(1, 2, 4, 4), 4)).values
    assert not torch.allclose(values[..., 0, 0], values[..., 2, 2])
    plain = Embedding(channels=2, dimension=8, hidden=16, coordinates="none", periods=[64])
    values = plain(FeatureMap(torch.ones(1, 2, 4, 4), 4)).values
    assert torch.allclose(values[..., 0, 0], values[..., 2, 2])


def test_pixels_that_name_one_place_have_one_code() -> None:
    embedding = Embedding(channels=2, dimension=8, hidden=16, coordinates="displaced", periods=[64])
    feature = FeatureMap(torch.zeros(1, 2, 4, 4), 4)
    # a network that displaces every pixel to the place (9, 5)
    centres = feature_cell_centres(feature)[0]
    to_place = (torch.tensor([9.0, 5.0])[:, None, None] - centres) / Embedding.DISPLACEMENT
    outputs = torch.cat([torch.zeros(8, 4, 4), to_place])[None]
    embedding.layers = torch.nn.Sequential(Fixed(outputs))
    values = embedding(feature).values
    assert torch.allclose(values, values[..., :1, :1].expand_as(values), atol=1e-5)
    embedding.layers = torch.nn.Sequential(Fixed(outputs * 0))
    alone = embedding(feature).values
    assert not torch.allclose(alone[..., 0, 0], alone[..., 2, 2], atol=1e-2), (
        "without displacement the code is the pixel's own"
    )
    embedding.layers = torch.nn.Sequential(
        Fixed(outputs + torch.eye(10)[8][:, None, None] * 64 / Embedding.DISPLACEMENT)
    )
    assert torch.allclose(embedding(feature).values, values, atol=1e-4), "a period farther is the same code"


class Fixed(torch.nn.Module):
    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.outputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 1}, "embedding.dimension must be >= 2, got 1"),
        ({"coordinates": "pixel"}, "embedding.coordinates must be none, periodic or displaced, got 'pixel'"),
    ],
)
def test_wrong_options(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Embedding(
            **({"channels": 4, "dimension": 3, "hidden": 4, "coordinates": "none", "periods": []} | change)
        )


@pytest.mark.parametrize("coordinates", ["none", "periodic", "displaced"])
def test_an_embedding_initialised_from_data_is_not_collapsed(coordinates: str) -> None:
    embedding = Embedding(channels=8, dimension=6, hidden=16, coordinates=coordinates, periods=[16])
    feature = FeatureMap(torch.rand(2, 8, 12, 12) + 1, 4)  # all features alike, as behind a ReLU

    def mean_cosine() -> float:
        points = embedding(feature).values.movedim(1, -1).reshape(-1, 6)
        return float((points @ points.T).mean())

    before = mean_cosine()
    embedding.initialise_from_data(feature)
    outputs = embedding.layers(embedding.with_coordinates(feature))
    assert torch.allclose(outputs.mean((0, 2, 3)), torch.zeros(len(outputs[0])), atol=1e-5)
    assert torch.allclose(outputs.std((0, 2, 3)), torch.ones(len(outputs[0])), atol=1e-4)
    assert abs(mean_cosine()) < 0.1 and (coordinates == "displaced" or before > 0.5)
