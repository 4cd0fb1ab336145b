from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from painted import painted, squares
from PIL import Image

import rpe.run
from rpe.data.image import Reader
from rpe.network.backbone.decoder import pad_images
from rpe.network.embedding import Embedding
from rpe.segment import Segmenter, cut_tiles, network_period
from rpe.segment.segmenter import compute_modes
from rpe.structures import FeatureMap, Geometry, UserError
from rpe.task.instance import InstanceTask

CONF = Path(__file__).parent.parent.parent / "conf"


def test_modes_are_the_mean_directions() -> None:
    labels = squares()
    output = painted(labels, stride=2, noise=0.02)
    large = labels.numpy().repeat(2, 0).repeat(2, 1)
    modes = compute_modes(large, 3, output.points, Geometry((24, 32), (24, 32)))
    assert modes.shape == (3, 4) and np.allclose(np.linalg.norm(modes, axis=1), 1)
    assert (modes.argmax(1) == [1, 2, 3]).all() and (modes.max(1) > 0.9).all()


@pytest.mark.parametrize("coordinates", ["periodic", "displaced"])
def test_an_embedding_says_the_same_of_the_same_place_in_tiles_that_start_at_the_multiple(
    coordinates: str,
) -> None:
    embedding = Embedding(4, 8, 16, coordinates, [12, 32, 48])
    multiple = network_period(embedding)
    assert multiple == 192
    values = torch.randn(1, 4, 8, 200)
    whole = embedding(FeatureMap(values, 2)).values
    start = multiple // 2
    tile = embedding(FeatureMap(values[..., start:], 2)).values
    assert torch.allclose(whole[..., start:], tile, atol=1e-4)
    beside = embedding(FeatureMap(values[..., start - 5 :], 2)).values[..., 5:]
    assert not torch.allclose(whole[..., start:], beside, atol=1e-2), "elsewhere it does not"
    assert network_period(Embedding(4, 8, 16, "none", [12])) == 64


FINE = [
    "proposal.bandwidths=[0.05]",
    "proposal.iterations=[2]",
    "proposal.min_area=2",
    "proposal.merge_tolerance=0.01",
]
"""Settings under which an untrained network has several groups."""


def make_segmenter(*overrides: str) -> Segmenter:
    """An untrained network that finds something everywhere."""
    chosen = [
        "backbone.width=4",
        "backbone.levels=1",
        "proposal.foreground_thresholds=[0.01]",
        "proposal.score_threshold=0",
        *FINE,
        *overrides,
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        task = rpe.run.build_task(compose("train", chosen)).eval()
    assert isinstance(task, InstanceTask)
    return task.segmenter


@pytest.mark.parametrize("grouped", [True, False])
def test_pieces_have_classes_where_the_head_knows_them(grouped: bool) -> None:
    segmenter = make_segmenter(
        "experiment=digits_semantic", "task=semantic", f"loss.pairwise.weight={int(grouped)}"
    )
    assert segmenter.uses_grouping == grouped
    geometry = Geometry((32, 48), (32, 48))
    output = segmenter.embed(torch.rand(1, 3, 32, 48))
    piece = segmenter.piece(output, geometry)
    assert (
        piece.labels.shape == (32, 48)
        and 0 < len(piece.scores) == len(piece.modes) == len(piece.classes) == piece.labels.max()
    )
    assert (piece.classes > 0).all()
    proposals, probability = segmenter.propose(output, geometry)
    assert probability is not None and (proposals.classes is None) == grouped
    for label, number in enumerate(piece.classes, start=1):
        if not grouped:
            assert probability[:, piece.labels == label].mean(1).argmax() == number
    segmenter.precision = torch.bfloat16
    assert segmenter.piece(segmenter.embed(torch.rand(1, 3, 32, 48)), geometry).modes.dtype == np.float64


def test_a_batch_of_tiles_has_the_objects_of_its_tiles_one_by_one() -> None:
    segmenter = make_segmenter()
    image = torch.randint(0, 256, (3, 64, 200), dtype=torch.uint8)
    tiles = cut_tiles((64, 200), 64, 0, 64)
    single = segmenter.pieces(image, tiles, None, lambda share: None)
    segmenter.batch, told = 3, []
    together = segmenter.pieces(image, tiles, None, told.append)
    assert told[-1] == 1 and len(tiles) == 4 and sum(len(piece.scores) for piece in single) > 4
    for one, other in zip(single, together, strict=True):
        assert np.mean((one.labels > 0) == (other.labels > 0)) > 0.99 and len(one.scores) == pytest.approx(
            len(other.scores), rel=0.1
        )


@pytest.mark.parametrize("task", ["task=instance", "task=semantic"])
def test_views_average_the_objectness_of_mirror_images_and_quarter_turns(task: str) -> None:
    segmenter = make_segmenter("experiment=digits_semantic", task)
    images = torch.rand(1, 3, 33, 46)  # not whole cells: 34 x 46 once padded
    once = segmenter.embed(images)
    for views in (2, 8):
        segmenter.proposer.views = views
        found = segmenter.embed(images)
        padded = pad_images(images, segmenter.network.backbone.multiple)
        turned = [
            (torch.rot90(padded.flip(-1) if mirror else padded, turns, (-2, -1)), mirror, turns)
            for turns in range(views // 2)
            for mirror in (False, True)
        ]
        each = [segmenter.network.embed(image).objectness.values for image, _, _ in turned]
        # undone in the reverse order, by torch's own inverse: a view and its map are turned alike
        back = [
            torch.rot90(values, 4 - turns, (-2, -1)).flip(-1)
            if mirror
            else torch.rot90(values, 4 - turns, (-2, -1))
            for values, (_, mirror, turns) in zip(each, turned, strict=True)
        ]
        torch.testing.assert_close(found.objectness.values, torch.stack(back).mean(0))
        assert torch.equal(found.points.values, once.points.values), "the embedding is the image's own"
        assert (found.classes is None) == (once.classes is None)


@pytest.mark.parametrize("views", [2, 8])
def test_views_make_the_objectness_of_a_mirror_image_the_mirror_image(views: int) -> None:
    segmenter = make_segmenter(f"proposal.views={views}")
    images = torch.rand(1, 3, 32, 48)
    found, mirrored = segmenter.embed(images).objectness, segmenter.embed(images.flip(-1)).objectness
    torch.testing.assert_close(mirrored.values.flip(-1), found.values, atol=1e-5, rtol=1e-4)
    segmenter.proposer.views = 1
    alone = segmenter.embed(images.flip(-1)).objectness.values.flip(-1)
    assert not torch.allclose(alone, segmenter.embed(images).objectness.values, atol=1e-3)


def test_arrays_pictures_and_files_of_the_same_pixels_have_the_same_objects(tmp_path: Path) -> None:
    segmenter = make_segmenter()
    segmenter.reader = Reader(40, (1.0, 99.0))
    pixels = np.random.default_rng(0).integers(0, 200, size=(50, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = segmenter(pixels)
    assert len(wanted) > 1 and wanted.labels.shape == (50, 60)
    for image in (Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(segmenter(image).labels, wanted.labels)
    assert wanted.overlay(segmenter.read(pixels)).shape == (50, 60, 3)


def test_only_images_of_more_than_two_megapixels_are_cut() -> None:
    assert [
        len(cut_tiles(size, "auto", 256, 64))
        for size in ((1448, 1448), (1449, 1449), (4000, 4000), (30, 3000))
    ] == [1, 4, 25, 1]
    segmenter = make_segmenter()
    segmenter.tile, segmenter.overlap = 64, 60
    with pytest.raises(UserError, match="tile must be >= 124, got 64. Tiles of overlap 60"):
        segmenter(np.zeros((20, 200), dtype=np.uint8))
