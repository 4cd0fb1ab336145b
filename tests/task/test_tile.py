from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from painted import painted, squares
from rpe.network.embedding import Embedding
from rpe.segment import classified

import rpe.run
from rpe.structures import FeatureMap, Proposals, encode_mask
from rpe.task.tile import classes_of, modes_of, multiple_of, pieces_of

CONF = Path(__file__).parent.parent.parent / "conf"


def test_modes_are_the_mean_directions() -> None:
    labels = squares()
    embedded = painted(labels, stride=2, noise=0.02)
    large = labels.numpy().repeat(2, 0).repeat(2, 1)
    modes = modes_of(large, 3, embedded.points, (24, 32))
    assert modes.shape == (3, 4) and np.allclose(np.linalg.norm(modes, axis=1), 1)
    assert (modes.argmax(1) == [1, 2, 3]).all() and (modes.max(1) > 0.9).all()


@pytest.mark.parametrize("coordinates", ["periodic", "displaced"])
def test_an_embedding_says_the_same_of_the_same_place_in_tiles_that_start_at_the_multiple(coordinates: str) -> None:
    embedding = Embedding(4, 8, 16, coordinates, [12, 32, 48])
    multiple = multiple_of(embedding)
    assert multiple == 192
    values = torch.randn(1, 4, 8, 200)
    whole = embedding(FeatureMap(values, 2)).values
    start = multiple // 2
    tile = embedding(FeatureMap(values[..., start:], 2)).values
    assert torch.allclose(whole[..., start:], tile, atol=1e-4)
    beside = embedding(FeatureMap(values[..., start - 5 :], 2)).values[..., 5:]
    assert not torch.allclose(whole[..., start:], beside, atol=1e-2), "elsewhere it does not"
    assert multiple_of(Embedding(4, 8, 16, "none", [12])) == 64


@pytest.mark.parametrize("grouped", [True, False])
def test_pieces_have_classes_where_the_head_knows_them(grouped: bool) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = [
            "experiment=digits_semantic",
            "task=semantic",
            "backbone.width=4",
            "backbone.levels=1",
            "proposal.foreground=0.01",
            "proposal.least_score=0",
        ]
        task = rpe.run.build_task(compose("train", [*chosen, f"loss.pairwise_weight={int(grouped)}"])).eval()
    pieces = pieces_of(task, torch.rand(2, 3, 32, 48), (32, 48), None)
    for piece in pieces:
        assert piece.labels.shape == (32, 48) and len(piece.scores) == len(piece.modes) == len(piece.classes) == piece.labels.max()
        assert (piece.classes > 0).all()
    assert sum(len(piece.scores) for piece in pieces) > 0
    half = pieces_of(task, torch.rand(1, 3, 32, 48), (32, 48), torch.bfloat16)
    assert half[0].modes.dtype == np.float64


def test_the_class_of_an_object_is_the_likeliest_inside_of_it() -> None:
    probability = np.zeros((3, 4, 6))
    probability[0], probability[1, :, :3], probability[2, :, 3:] = 0.6, 0.4, 0.4
    masks = [np.zeros((4, 6), dtype=bool) for _ in range(3)]
    masks[0][:, 4:], masks[1][0, 0], masks[2][1, 1:4] = True, True, True
    proposals = Proposals([encode_mask(mask) for mask in masks], np.array([0.9, 0.5, 0.4]), (4, 6))
    assert classes_of(proposals, [2, 0, 1], probability).tolist() == [1, 2, 1]
    assert classified(proposals, probability).classes.tolist() == [2, 1, 1]
